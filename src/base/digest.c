/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <openssl/evp.h>
#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t ending;
static EVP_MD *sha256; /* fetched once, for the life of the process */
static _Thread_local EVP_MD_CTX *mine;

static void thread_ends(void *context)
{
    EVP_MD_CTX_free(context);
    mine = NULL;
}

static void set_up(void)
{
    pthread_key_create(&ending, thread_ends);
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static EVP_MD_CTX *context_of_thread(void)
{
    if (mine)
        return mine;
    pthread_once(&once, set_up);
    mine = EVP_MD_CTX_new();
    if (mine)
        pthread_setspecific(ending, mine);
    return mine;
}

enum leafd_err digest_sha256(struct bytes input, uint8_t out[static DIGEST_LEN])
{
    EVP_MD_CTX *context = context_of_thread();

    if (!context || !sha256 || EVP_DigestInit_ex2(context, sha256, NULL) != 1 ||
        EVP_DigestUpdate(context, input.data, input.len) != 1 ||
        EVP_DigestFinal_ex(context, out, NULL) != 1)
        return LEAFD_INTERNAL;
    return LEAFD_OK;
}
