/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_ca_howto.h"

#include "base/digest.h"
#include "ctl/ctl_output.h"

#include <stdio.h>
#include <stdlib.h>

enum { FINGERPRINT_SIZE = 3 * DIGEST_LEN };

/* "AB:CD:…", as every tool that shows one writes it. */
static enum leafd_err fingerprint_of(struct bytes der, char out[static FINGERPRINT_SIZE])
{
    uint8_t digest[DIGEST_LEN];
    enum leafd_err err = digest_sha256(der, digest);

    for (size_t i = 0; err == LEAFD_OK && i < DIGEST_LEN; i++)
        snprintf(out + 3 * i, 4, i + 1 < DIGEST_LEN ? "%02X:" : "%02X", digest[i]);
    return err;
}

static void put_head(FILE *out, const struct cert_list *list, const char *fingerprint,
                     const char *end, const char *words)
{
    size_t root = list->count - 1;
    char subject[512];

    fputs("A TLS-inspecting proxy here shows certificates that leafd makes. Its clients have to\n"
          "trust this root:\n\n",
          out);
    fprintf(out, "    subject     %s\n", cert_list_subject(list, root, subject, sizeof(subject)));
    fprintf(out, "    not after   %s\n    SHA-256     %s\n\n", end, fingerprint);
    if (root > 0)
        fprintf(out,
                "leafd's own CA is an intermediate, \"%s\".\n"
                "leafd sends it with every leaf: clients need the root alone.\n\n",
                cert_list_subject(list, 0, subject, sizeof(subject)));
    fprintf(out,
            "The files used below, and how to see that they are the right ones:\n\n"
            "    leafctl%s ca export --out leafd-root.pem\n"
            "    leafctl%s ca export --format der --out leafd-root.cer\n"
            "    leafctl%s ca export --format mobileconfig --out leafd-root.mobileconfig\n"
            "    openssl x509 -in leafd-root.pem -noout -fingerprint -sha256\n\n",
            words, words, words);
}

static const char systems[] =
    "Debian, Ubuntu\n"
    "    sudo cp leafd-root.pem /usr/local/share/ca-certificates/leafd-root.crt\n"
    "    sudo update-ca-certificates\n"
    "\n"
    "RHEL, Fedora and their kin\n"
    "    sudo cp leafd-root.pem /etc/pki/ca-trust/source/anchors/\n"
    "    sudo update-ca-trust\n"
    "\n"
    "macOS\n"
    "    sudo security add-trusted-cert -d -r trustRoot \\\n"
    "        -k /Library/Keychains/System.keychain leafd-root.pem\n"
    "    Managed ones get leafd-root.mobileconfig from their MDM.\n"
    "\n"
    "iOS, iPadOS\n"
    "    Install leafd-root.mobileconfig, by an MDM or by hand; by hand, switch the root on in\n"
    "    Settings > General > About > Certificate Trust Settings as well.\n"
    "\n"
    "Windows, one machine (as administrator)\n"
    "    certutil -addstore Root leafd-root.cer\n"
    "\n"
    "Windows, a domain\n"
    "    Group Policy: Computer Configuration > Policies > Windows Settings > Security Settings >\n"
    "    Public Key Policies > Trusted Root Certification Authorities > Import leafd-root.cer\n"
    "    or, for the whole forest: certutil -dspublish -f leafd-root.cer RootCA\n"
    "\n"
    "Firefox (policies.json; Linux: /etc/firefox/policies/)\n"
    "    { \"policies\": { \"Certificates\": { \"ImportEnterpriseRoots\": true,\n"
    "        \"Install\": [\"/etc/firefox/policies/leafd-root.pem\"] } } }\n"
    "\n"
    "Chromium on Linux (each user's NSS database)\n"
    "    certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n leafd-root -i leafd-root.pem\n"
    "\n"
    "Java\n"
    "    keytool -importcert -noprompt -cacerts -storepass changeit \\\n"
    "        -alias leafd-root -file leafd-root.pem\n"
    "\n"
    "Programs with a list of their own\n"
    "    NODE_EXTRA_CA_CERTS=leafd-root.pem      Node.js\n"
    "    REQUESTS_CA_BUNDLE, SSL_CERT_FILE       Python and others; the file has to hold the "
    "usual\n"
    "                                            roots too\n";

enum leafd_err ca_howto_make(const struct ca *ca, const struct cert_list *list, const char *words,
                             struct bytes *ret, struct why *why)
{
    char fingerprint[FINGERPRINT_SIZE], end[CLOCK_TEXT_SIZE];
    char *text = NULL;
    size_t len = 0;
    FILE *out;
    bool is_alone = list->count == 1;
    enum leafd_err err = fingerprint_of(list->der[list->count - 1], fingerprint);

    if (err != LEAFD_OK)
        return fail(why, err, "no SHA-256 is to be had");
    out = open_memstream(&text, &len);
    if (!out)
        return LEAFD_NOMEM;
    put_head(out, list, fingerprint,
             clock_text(is_alone ? ca->own_not_after : ca->root_not_after, end), words);
    fputs(systems, out);
    if (fclose(out) != 0) {
        free(text);
        return LEAFD_NOMEM;
    }
    *ret = (struct bytes){(const uint8_t *)text, len};
    return LEAFD_OK;
}
