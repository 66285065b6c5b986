/* SPDX-License-Identifier: Apache-2.0 */
/* The one thread of a signer_client: receives from every link (recvmmsg), sends what was held
 * (sendmmsg), takes lost links out and watches deadlines. A part of a signer_client, and of no one
 * else.
 *
 * It sleeps while nothing is pending, and is woken by sign_traffic_wake(). It does every system
 * call on the links but an asker's own send; what becomes of the requests sign_traffic decides.
 * Locks: as sign_traffic.h has them; its callbacks run without any. */
#pragma once

/* The body of the thread: `traffic` is a struct sign_traffic. Returns NULL once `stopping` is set
 * and it was woken. */
void *signer_reader_run(void *traffic);
