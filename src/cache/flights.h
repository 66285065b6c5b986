/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves under way, by plan key: the first asker leads, others wait for the same leaf. Bounded in
 * flights and in waiters of one flight.
 *
 * Threads: every function from any thread, except _new and _free.
 * Locks:   one per shard, never held across a call out of this file. */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct flights;

/* What waits: embedded as the first member in the caller's own struct (serve/asker). */
struct flight_waiter {
    struct flight_waiter *next;
};

LEAFD_CHECKED enum leafd_err flights_new(size_t max_flights, size_t max_waiters,
                                         struct flights **ret);
/* No flight may be under way. */
void flights_free(struct flights *flights);

enum flight_role {
    FLIGHT_LEADER, /* the waiter is in; the caller must see to flights_land() */
    FLIGHT_JOINED, /* the waiter is in; somebody else leads */
    FLIGHT_FULL    /* a bound is reached: the waiter is still the caller's */
};
enum flight_role flights_join(struct flights *flights, const uint8_t key[static 32],
                              struct flight_waiter *waiter);
/* Ends the flight: all its waiters, oldest first, are the caller's. NULL if there is none. */
struct flight_waiter *flights_land(struct flights *flights, const uint8_t key[static 32]);
/* Flights under way. */
size_t flights_count(struct flights *flights);
