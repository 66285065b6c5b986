/* SPDX-License-Identifier: Apache-2.0 */
#include "der/oid.h"

/* Their dotted forms stand in tests/unit/test_der.c, which compares each with OpenSSL's encoding.
 */
#define OID(octets)                                                                                \
    {                                                                                              \
        (const uint8_t *)(octets), sizeof(octets) - 1                                              \
    }
#define ID_CE "\x55\x1d"
#define ID_PKIX "\x2b\x06\x01\x05\x05\x07"
#define ID_AT "\x55\x04"
#define ID_PKCS1 "\x2a\x86\x48\x86\xf7\x0d\x01\x01"
#define ID_OIW "\x2b\x0e\x03\x02"
#define ID_NIST_HASH "\x60\x86\x48\x01\x65\x03\x04\x02"
#define ID_X962 "\x2a\x86\x48\xce\x3d"
#define ID_X957 "\x2a\x86\x48\xce\x38"
#define ID_CERTICOM "\x2b\x81\x04"
#define ID_BRAINPOOL "\x2b\x24\x03\x03\x02\x08\x01\x01"

const struct bytes oid_subject_directory = OID(ID_CE "\x09");
const struct bytes oid_subject_key_id = OID(ID_CE "\x0e");
const struct bytes oid_key_usage = OID(ID_CE "\x0f");
const struct bytes oid_subject_alt_name = OID(ID_CE "\x11");
const struct bytes oid_issuer_alt_name = OID(ID_CE "\x12");
const struct bytes oid_basic_constraints = OID(ID_CE "\x13");
const struct bytes oid_crl_number = OID(ID_CE "\x14");
const struct bytes oid_name_constraints = OID(ID_CE "\x1e");
const struct bytes oid_crl_points = OID(ID_CE "\x1f");
const struct bytes oid_certificate_policies = OID(ID_CE "\x20");
const struct bytes oid_policy_mappings = OID(ID_CE "\x21");
const struct bytes oid_authority_key_id = OID(ID_CE "\x23");
const struct bytes oid_ext_key_usage = OID(ID_CE "\x25");
const struct bytes oid_freshest_crl = OID(ID_CE "\x2e");
const struct bytes oid_inhibit_any_policy = OID(ID_CE "\x36");
const struct bytes oid_authority_info = OID(ID_PKIX "\x01\x01");
const struct bytes oid_subject_info = OID(ID_PKIX "\x01\x0b");
const struct bytes oid_tls_feature = OID(ID_PKIX "\x01\x18");
const struct bytes oid_ct_poison = OID("\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x03");

const struct bytes oid_server_auth = OID(ID_PKIX "\x03\x01");
const struct bytes oid_any_usage = OID(ID_CE "\x25\x00");

const struct bytes oid_common_name = OID(ID_AT "\x03");
const struct bytes oid_serial_number = OID(ID_AT "\x05");
const struct bytes oid_country = OID(ID_AT "\x06");
const struct bytes oid_email_address = OID("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01");

const struct bytes oid_rsa_md2 = OID(ID_PKCS1 "\x02");
const struct bytes oid_rsa_md4 = OID(ID_PKCS1 "\x03");
const struct bytes oid_rsa_md5 = OID(ID_PKCS1 "\x04");
const struct bytes oid_rsa_sha1 = OID(ID_PKCS1 "\x05");
const struct bytes oid_rsa_sha256 = OID(ID_PKCS1 "\x0b");
const struct bytes oid_rsa_sha384 = OID(ID_PKCS1 "\x0c");
const struct bytes oid_rsa_sha512 = OID(ID_PKCS1 "\x0d");
const struct bytes oid_rsa_pss = OID(ID_PKCS1 "\x0a");
const struct bytes oid_oiw_algorithms = OID(ID_OIW);
const struct bytes oid_dsa_sha1 = OID(ID_X957 "\x04\x03");
const struct bytes oid_ecdsa_sha1 = OID(ID_X962 "\x04\x01");
const struct bytes oid_ecdsa_specified = OID(ID_X962 "\x04\x03");
const struct bytes oid_ecdsa_plain_sha1 = OID("\x04\x00\x7f\x00\x07\x01\x01\x04\x01\x01");
const struct bytes oid_ecdsa_sha256 = OID(ID_X962 "\x04\x03\x02");
const struct bytes oid_ecdsa_sha384 = OID(ID_X962 "\x04\x03\x03");
const struct bytes oid_ecdsa_sha512 = OID(ID_X962 "\x04\x03\x04");

const struct bytes oid_sha1 = OID(ID_OIW "\x1a");
const struct bytes oid_sha256 = OID(ID_NIST_HASH "\x01");
const struct bytes oid_sha384 = OID(ID_NIST_HASH "\x02");
const struct bytes oid_sha512 = OID(ID_NIST_HASH "\x03");
const struct bytes oid_mgf1 = OID(ID_PKCS1 "\x08");
const struct bytes oid_md2 = OID("\x2a\x86\x48\x86\xf7\x0d\x02\x02");
const struct bytes oid_md4 = OID("\x2a\x86\x48\x86\xf7\x0d\x02\x04");
const struct bytes oid_md5 = OID("\x2a\x86\x48\x86\xf7\x0d\x02\x05");

const struct bytes oid_rsa = OID(ID_PKCS1 "\x01");
const struct bytes oid_ec_public_key = OID(ID_X962 "\x02\x01");
const struct bytes oid_dsa = OID(ID_X957 "\x04\x01");
const struct bytes oid_ed25519 = OID("\x2b\x65\x70");
const struct bytes oid_ed448 = OID("\x2b\x65\x71");
const struct bytes oid_p224 = OID(ID_CERTICOM "\x00\x21");
const struct bytes oid_p256 = OID(ID_X962 "\x03\x01\x07");
const struct bytes oid_p384 = OID(ID_CERTICOM "\x00\x22");
const struct bytes oid_p521 = OID(ID_CERTICOM "\x00\x23");
const struct bytes oid_secp256k1 = OID(ID_CERTICOM "\x00\x0a");
const struct bytes oid_sm2 = OID("\x2a\x81\x1c\xcf\x55\x01\x82\x2d");
const struct bytes oid_brainpool256 = OID(ID_BRAINPOOL "\x07");
const struct bytes oid_brainpool320 = OID(ID_BRAINPOOL "\x09");
const struct bytes oid_brainpool384 = OID(ID_BRAINPOOL "\x0b");
const struct bytes oid_brainpool512 = OID(ID_BRAINPOOL "\x0d");
