/* SPDX-License-Identifier: Apache-2.0 */
/* leafd: the command line. Everything else is in run/. */
#include "config.h"

#include "run/role.h"
#include "run/supervisor.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPTION_INSECURE_FILE_KEY = 256, OPTION_ROLE, OPTION_CHANNEL };

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"option", required_argument, NULL, 'o'},
    {"insecure-file-key", no_argument, NULL, OPTION_INSECURE_FILE_KEY},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"role", required_argument, NULL, OPTION_ROLE}, /* by the supervisor alone */
    {"channel", required_argument, NULL, OPTION_CHANNEL},
    {NULL, 0, NULL, 0},
};

static int usage(FILE *out)
{
    fprintf(out,
            "usage: leafd [-c FILE] [-o KEY=VALUE]... [--insecure-file-key]\n"
            "       leafd --help | --version\n"
            "\n"
            "Mints TLS leaf certificates for intercepting proxies; the CA key stays in a PKCS#11 "
            "token.\n"
            "Runs in the foreground and logs to standard error.\n"
            "\n"
            "  -c, --config FILE      configuration (else LEAFD_CONFIG, else %s/leafd/leafd.yaml)\n"
            "  -o, --option KEY=VALUE sets one key over the file, as in log.level=debug\n"
            "      --insecure-file-key  lets token.access: file read the CA key from a file\n"
            "  -h, --help             prints this\n"
            "  -V, --version          prints the version\n",
            SYSCONFDIR);
    return out == stdout ? EXIT_OK : EXIT_USAGE;
}

/* A descriptor from the supervisor; -1 for anything else. */
static int channel_of(const char *text)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 10);
    return errno || *end || end == text || number < 3 || number > INT_MAX ? -1 : (int)number;
}

int main(int argc, char **argv)
{
    struct supervisor_options chosen = {.program = argc > 0 ? argv[0] : "leafd"};
    const char *role = NULL;
    const char *end = NULL; /* of the channel */
    const char **overrides;
    int letter;
    int code;

    overrides = calloc((size_t)argc + 1, sizeof(*overrides));
    if (!overrides)
        return EXIT_FAILED;
    chosen.overrides = overrides;
    while ((letter = getopt_long(argc, argv, "c:o:hV", options, NULL)) != -1) {
        switch (letter) {
        case 'c':
            chosen.config = optarg;
            break;
        case 'o':
            overrides[chosen.override_count++] = optarg;
            break;
        case OPTION_INSECURE_FILE_KEY:
            chosen.insecure_file_key = true;
            break;
        case OPTION_ROLE:
            role = optarg;
            break;
        case OPTION_CHANNEL:
            end = optarg;
            break;
        case 'h':
            code = usage(stdout);
            goto out;
        case 'V':
            puts(PACKAGE_STRING);
            code = EXIT_OK;
            goto out;
        default: /* getopt_long has said what is wrong */
            code = usage(stderr);
            goto out;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "leafd: \"%s\" is not an option\n", argv[optind]);
        code = usage(stderr);
    } else if (!role && !end) {
        code = supervisor_run(&chosen);
    } else if (!role || !end || channel_of(end) == -1) {
        fputs("leafd: --role and --channel are for leafd's own use\n", stderr);
        code = EXIT_USAGE;
    } else {
        code = role_main(role, channel_of(end));
    }
out:
    free(overrides);
    return code;
}
