/* SPDX-License-Identifier: Apache-2.0 */
/* CAs made by OpenSSL with anything wrong that a test wants, read or refused by policy/ca. What
 * cannot be made fails the test.
 *
 * Threads: one. */
#pragma once

#include "policy/ca.h"

#include <openssl/x509.h>

/* A certificate to be made; members left out have the value of a good root. */
struct recipe {
    const char *cn; /* NULL: "Test CA" */
    EVP_PKEY *key;  /* its own */
    X509 *issuer;   /* NULL: itself */
    EVP_PKEY *issuer_key;
    const char *basic;        /* NULL: "critical,CA:TRUE"; "" for none, as with those below */
    const char *usage;        /* NULL: "critical,keyCertSign,cRLSign" */
    const char *key_id;       /* NULL: "hash" */
    const char *more[3][2];   /* name and value */
    int version;              /* 0: 3 */
    long first_sec, last_sec; /* 0: from an hour ago, for a day */
    bool no_subject;
    int cn_type; /* 0: a UTF8String */
    bool weak;   /* signed with SHA-1 */
};

/* Two P-256 keys that all tests of a program share: setup and teardown of the group. */
extern EVP_PKEY *recipe_key;
extern EVP_PKEY *recipe_other_key;
int recipe_keys_new(void **state);
int recipe_keys_free(void **state);

X509 *recipe_cert(const struct recipe *recipe);
X509 *recipe_unsigned(const struct recipe *recipe);
/* The certificates as one PEM text behind `before`; free(data). */
struct bytes recipe_pem(X509 *const *cert, size_t count, const char *before);
/* ca_read() of them, with id 3. */
enum leafd_err recipe_read(X509 *const *cert, size_t count, bool append_root, struct ca **ret,
                           struct why *why);
struct ca *recipe_ca(const struct recipe *recipe);
/* It is refused with a sentence that holds `part`. */
void recipe_refused(const struct recipe *recipe, const char *part);
bool recipe_allows(const struct ca *ca, const char *host);
