/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/pin_refusals.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { REFUSALS_MAX = 16, MAC_LEN = 32, TEXT_MAX = 512, TURN_MS = 5 };

/* What the memory holds. The lock is robust: a process that dies at its try gives it back. */
struct refusals {
    pthread_mutex_t lock;
    uint8_t key[MAC_LEN];
    _Atomic unsigned count;
    uint8_t mac[REFUSALS_MAX][MAC_LEN];
};

static struct refusals *shared;

static bool refusals_init(struct refusals *refusals)
{
    pthread_mutexattr_t attr;
    bool ok;

    if (getrandom(refusals->key, sizeof(refusals->key), 0) != (ssize_t)sizeof(refusals->key))
        return false;
    if (pthread_mutexattr_init(&attr) != 0)
        return false;
    ok = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0 &&
         pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0 &&
         pthread_mutex_init(&refusals->lock, &attr) == 0;
    pthread_mutexattr_destroy(&attr);
    return ok;
}

static struct refusals *refusals_map(int fd)
{
    void *memory = mmap(NULL, sizeof(struct refusals), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

enum leafd_err pin_refusals_make(int *ret_fd, struct why *why)
{
    struct refusals *refusals = NULL;
    int fd = memfd_create("leafd-pin-refusals", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool ok = fd != -1 && ftruncate(fd, sizeof(*refusals)) == 0 &&
              fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;

    if (ok)
        refusals = refusals_map(fd);
    if (refusals && refusals_init(refusals)) {
        munmap(refusals, sizeof(*refusals));
        *ret_fd = fd;
        return LEAFD_OK;
    }
    if (refusals)
        munmap(refusals, sizeof(*refusals));
    if (fd != -1)
        close(fd);
    return fail(why, LEAFD_IO, "cannot make memory for refused PINs: %s", strerror(errno));
}

/* Not under the lock, which somebody may hold who hangs. A refusal that is being written just now
 * may stay. */
void pin_refusals_forget(int fd)
{
    struct refusals *refusals = refusals_map(fd);

    if (!refusals)
        return;
    atomic_store(&refusals->count, 0);
    munmap(refusals, sizeof(*refusals));
}

enum leafd_err pin_refusals_use(int fd, struct why *why)
{
    struct refusals *refusals = refusals_map(fd);

    if (!refusals)
        return fail(why, LEAFD_IO, "cannot share the memory of refused PINs: %s", strerror(errno));
    shared = refusals;
    return LEAFD_OK;
}

/* Ours alone, where nobody gave us any. */
static struct refusals own;
static bool own_is_good;

static void own_init(void)
{
    own_is_good = refusals_init(&own);
}

static struct refusals *refusals_get(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (shared)
        return shared;
    pthread_once(&once, own_init);
    return own_is_good ? &own : NULL;
}

/* Asks again and again: somebody else's login takes milliseconds and is rare, and a wait with a
 * deadline that takes a dead owner's lock is nothing that ThreadSanitizer knows. */
static bool refusals_lock(struct refusals *refusals, int64_t wait_ms)
{
    int64_t until_ms = clock_mono_ms() + wait_ms;
    int error;

    while ((error = pthread_mutex_trylock(&refusals->lock)) == EBUSY && clock_mono_ms() < until_ms)
        (void)poll(NULL, 0, TURN_MS);
    if (error == EOWNERDEAD)
        error = pthread_mutex_consistent(&refusals->lock);
    return error == 0;
}

static bool pin_mac(const struct refusals *refusals, struct bytes token, const struct secret *pin,
                    uint8_t mac[MAC_LEN])
{
    uint8_t text[TEXT_MAX];
    unsigned mac_len = MAC_LEN;
    bool ok;

    if (token.len > sizeof(text) || pin->len > sizeof(text) - token.len)
        return false;
    memcpy(text, token.data, token.len);
    if (pin->len)
        memcpy(text + token.len, pin->data, pin->len);
    ok = HMAC(EVP_sha256(), refusals->key, sizeof(refusals->key), text, token.len + pin->len, mac,
              &mac_len) != NULL;
    OPENSSL_cleanse(text, sizeof(text));
    return ok;
}

/* With a full table every PIN counts as refused: better the operator's word than a locked token. */
static bool was_refused(struct refusals *refusals, struct bytes token, const struct secret *pin)
{
    unsigned count = atomic_load(&refusals->count);
    uint8_t mac[MAC_LEN];
    bool found = count >= REFUSALS_MAX || !pin_mac(refusals, token, pin, mac);

    for (unsigned i = 0; i < count && !found; i++)
        found = CRYPTO_memcmp(refusals->mac[i], mac, sizeof(mac)) == 0;
    return found;
}

enum leafd_err pin_try_begin(struct bytes token, const struct secret *pin, int64_t wait_ms,
                             struct why *why)
{
    struct refusals *refusals = refusals_get();

    if (!refusals)
        return fail(why, LEAFD_INTERNAL, "no random bytes to remember refused PINs by");
    if (!refusals_lock(refusals, wait_ms))
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "another signer has been logging in for %d ms: the token does not answer it",
                    (int)wait_ms);
    if (!was_refused(refusals, token, pin))
        return LEAFD_OK;
    pthread_mutex_unlock(&refusals->lock);
    return fail(why, LEAFD_PIN, "the token has refused this PIN before: it is not tried again");
}

void pin_try_end(struct bytes token, const struct secret *pin, bool refused)
{
    struct refusals *refusals = refusals_get();
    unsigned count = atomic_load(&refusals->count);

    if (refused && count < REFUSALS_MAX && pin_mac(refusals, token, pin, refusals->mac[count]))
        atomic_store(&refusals->count, count + 1);
    pthread_mutex_unlock(&refusals->lock);
}
