/* SPDX-License-Identifier: Apache-2.0 */
/* The object identifiers leafd knows, as DER content octets.
 *
 * Threads: constants. */
#pragma once

#include "base/bytes.h"

/* extensions: RFC 5280 section 4.2 */
extern const struct bytes oid_subject_key_id, oid_key_usage, oid_subject_alt_name,
    oid_issuer_alt_name, oid_basic_constraints, oid_crl_number, oid_name_constraints,
    oid_crl_points, oid_certificate_policies, oid_policy_mappings, oid_authority_key_id,
    oid_ext_key_usage, oid_freshest_crl, oid_inhibit_any_policy, oid_subject_directory,
    oid_authority_info, oid_subject_info, oid_tls_feature, oid_ct_poison;
/* extended key usages */
extern const struct bytes oid_server_auth, oid_any_usage;
/* attribute types */
extern const struct bytes oid_common_name, oid_country, oid_serial_number, oid_email_address;
/* signature algorithms (RFC 3279, 4055, 5758, 8410) */
extern const struct bytes oid_rsa_md2, oid_rsa_md4, oid_rsa_md5, oid_rsa_sha1, oid_rsa_sha256,
    oid_rsa_sha384, oid_rsa_sha512, oid_rsa_pss, oid_dsa_sha1, oid_ecdsa_sha1, oid_ecdsa_sha256,
    oid_ecdsa_sha384, oid_ecdsa_sha512;
/* X9.62: the hash is in the parameters; BSI TR-03111 */
extern const struct bytes oid_ecdsa_specified, oid_ecdsa_plain_sha1;
/* the arc of the Open Systems Implementors' Workshop, whose names for weak ones are still met */
extern const struct bytes oid_oiw_algorithms;
/* hashes and the mask generation, as RSASSA-PSS names them in its parameters */
extern const struct bytes oid_sha1, oid_sha256, oid_sha384, oid_sha512, oid_md2, oid_md4, oid_md5,
    oid_mgf1;
/* public keys and curves */
extern const struct bytes oid_rsa, oid_ec_public_key, oid_dsa, oid_ed25519, oid_ed448, oid_p224,
    oid_p256, oid_p384, oid_p521, oid_secp256k1, oid_sm2, oid_brainpool256, oid_brainpool320,
    oid_brainpool384, oid_brainpool512;
