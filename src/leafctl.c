/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl: the operator's tool. One table of commands and one of options; the usage texts, what is
 * accepted and where it goes all follow from them. */
#include "config.h"

#include "ctl/ctl.h"
#include "ctl/ctl_output.h"
#include "pkcs11/ca_make.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_of { /* which commands have it */
                 GLOBAL = 0,
                 LIKE = 1 << 0,
                 ISSUE = 1 << 1,
                 CA_INIT = 1 << 2,
                 CHECK = 1 << 3,
                 CA_CRL = 1 << 4,
                 CA_NEW = 1 << 5,
                 CA_CSR = 1 << 6,
                 CA_INSTALL = 1 << 7,
                 CA_EXPORT = 1 << 8,
                 ONE_TOKEN = 1 << 9,
                 TOKEN_TEST = 1 << 10
};

/* Several rows may have one name: an option that means something else to another command. They have
 * the same kind of argument and the same field. */
struct option_row {
    const char *name;
    char letter;          /* 0: none */
    const char *argument; /* NULL: a flag */
    unsigned of;          /* enum option_of; GLOBAL: all have it */
    size_t offset;        /* in struct ctl: a const char * or a bool, a struct ctl_texts if many */
    const char *sentence;
};

#define FIELD(field) offsetof(struct ctl, field)
#define NO_FIELD ((size_t)-1) /* handled by name */

static const struct option_row options[] = {
    {"config", 'c', "FILE", GLOBAL, FIELD(config),
     "the configuration; default: LEAFD_CONFIG, then " SYSCONFDIR "/leafd/leafd.yaml"},
    {"option", 'o', "KEY=VALUE", GLOBAL, FIELD(overrides),
     "one option over the file's, such as log.level=debug"},
    {"json", 0, NULL, GLOBAL, FIELD(json), "answers as one JSON document"},
    {"insecure-file-key", 0, NULL, GLOBAL, FIELD(insecure_file_key),
     "allows token.access: file, for tests"},
    {"help", 'h', NULL, GLOBAL, NO_FIELD, "prints this; behind a command, tells about it"},
    {"version", 'V', NULL, GLOBAL, NO_FIELD, "prints the version"},
    {"like", 0, "FILE", LIKE, FIELD(like),
     "the certificate that the real server showed, PEM or DER; the leaf is made like it"},
    {"server", 0, "ADDR:PORT|unix:PATH", ISSUE, FIELD(server),
     "where leafd listens; default: the configuration's first listener, else 127.0.0.1:2999"},
    {"service", 0, "NAME", ISSUE, FIELD(service), "http (default), smtp or imap"},
    {"usage", 0, "NAME", LIKE, FIELD(usage),
     "tls_server (default), tls_server_tongsuo, tlcp_server_signature or tlcp_server_encryption"},
    {"out", 0, "DIR", ISSUE, FIELD(out),
     "writes leaf.pem, key.pem (mode 0600) and chain.pem, if there is a chain, into DIR"},
    {"format", 0, "pem|der", ISSUE, FIELD(format), "der writes leaf.der and key.der; needs --out"},
    {"key", 0, "TYPE", CA_NEW, FIELD(key), CA_KEY_WORDS "; default: ec-p256"},
    {"cn", 0, "TEXT", CA_NEW, FIELD(cn), "the CA's name; default: leafd CA and a short key id"},
    {"permit", 0, "NAME|NET", CA_NEW, FIELD(permit),
     "the CA may issue for this domain and below, or this network; may be given several times"},
    {"exclude", 0, "NAME|NET", CA_NEW, FIELD(exclude),
     "the CA may not issue for this one; may be given several times"},
    {"existing", 0, NULL, CA_CSR, FIELD(existing),
     "takes the key that is in the token, and never makes one"},
    {"out", 0, "FILE|-", CA_CSR, FIELD(out), "writes the request there; default: standard output"},
    {"force", 0, NULL, CA_INSTALL, FIELD(force),
     "replaces the certificate of another key too; a copy of it is kept as always"},
    {"format", 0, "pem|der|mobileconfig|text", CA_EXPORT, FIELD(format),
     "pem (default), der, an Apple profile, or a text that tells how clients are made to trust it"},
    {"out", 0, "FILE|-", CA_EXPORT, FIELD(out), "writes there; default: standard output"},
    {"root", 0, NULL, CA_EXPORT, FIELD(root), "the root, which clients have to trust (default)"},
    {"chain", 0, NULL, CA_EXPORT, FIELD(chain), "the CA and all its issuers that are known"},
    {"days", 0, "N", CA_INIT, FIELD(days), "how long the CA is valid; default: 3650"},
    {"days", 0, "N", CA_CRL, FIELD(days),
     "how long the CRL is valid, at most until the CA's end; default: 90"},
    {"out", 0, "FILE|-", CA_CRL, FIELD(out),
     "writes there instead of ca.crl_file; - is standard output"},
    {"format", 0, "pem|der", CA_CRL, FIELD(format), "der (default) or pem; pem needs --out"},
    {"token", 0, "N", ONE_TOKEN, FIELD(token_number),
     "in this one of several tokens: 0 is token (default), 1 the first of more_tokens"},
    {"token", 0, "N", TOKEN_TEST, FIELD(token_number),
     "this one of several tokens alone: 0 is token, 1 the first of more_tokens"},
    {"module", 0, "FILE", TOKEN_TEST, FIELD(module),
     "with a URI: the PKCS#11 module, so that no configuration is needed"},
    {"pin-file", 0, "FILE", TOKEN_TEST, FIELD(pin_file),
     "with a URI: where the PIN of its token is"},
    {"env", 0, "NAME=VALUE", TOKEN_TEST, FIELD(env),
     "with --module: a variable for the module; may be given several times"},
    {"make-key", 0, NULL, TOKEN_TEST, FIELD(make_key),
     "with the URI of a token: makes keys to sign with, which stay only as long as the test"},
    {"key", 0, "TYPE", TOKEN_TEST, FIELD(key), "with --make-key: of this type alone"},
    {"sessions", 0, "N", TOKEN_TEST, FIELD(sessions),
     "opens so many sessions and signs with so many at once; default: 64, and token.sessions"},
    {"sample", 0, NULL, CHECK, FIELD(sample), "prints a configuration with every option instead"},
    {"no-token", 0, NULL, CHECK, FIELD(no_token), "asks no token, and so tries no PIN"},
};

enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]), LONG_BASE = 256 };

static const struct command {
    const char *name;
    int (*run)(const struct ctl *ctl);
    const char *argument; /* NULL: it takes none; in brackets: it may be left out */
    unsigned options;
    const char *sentence;
} commands[] = {
    {"issue", ctl_issue, "HOST", LIKE | ISSUE,
     "asks leafd for a leaf; prints leaf, chain and private key as PEM"},
    {"explain", ctl_explain, "HOST", LIKE, "tells which leaf leafd would make for a host, and why"},
    {"check", ctl_check, NULL, CHECK,
     "checks the configuration, the files it names, and the keys in its tokens"},
    {"ca init", ctl_ca_init, NULL, CA_NEW | CA_INIT | ONE_TOKEN,
     "makes the CA's key in the token, and its certificate; overwrites neither"},
    {"ca csr", ctl_ca_csr, NULL, CA_NEW | CA_CSR | ONE_TOKEN,
     "writes a request for an outside root to sign; makes the key if the token has none"},
    {"ca install", ctl_ca_install, "FILE", CA_INSTALL | ONE_TOKEN,
     "takes the certificate that the outside root has signed, with its issuers"},
    {"ca export", ctl_ca_export, NULL, CA_EXPORT, "writes what clients need to trust the CA"},
    {"ca crl", ctl_ca_crl, NULL, CA_CRL | ONE_TOKEN,
     "signs an empty revocation list (CRL) with the CA's key, for clients that want one"},
    {"ca show", ctl_ca_show, NULL, 0, "prints what the CA's certificate says"},
    {"token list", ctl_token_list, NULL, 0, "lists the tokens that the configured modules know"},
    {"token test", ctl_token_test, "[URI]", TOKEN_TEST,
     "tells what tokens can do, signs with the CA's keys, and advises; or of the token of a URI"},
    {"token unblock", ctl_token_unblock, "[TOKEN]", 0,
     "lets a running leafd try a PIN once more that its token has refused"},
    {"status", ctl_status, NULL, 0, "asks a running leafd how it is and what it did"},
    {"flush", ctl_flush, NULL, 0, "lets a running leafd forget all leaves it has issued"},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

/* ---- usage ---- */

static void print_option(FILE *out, const struct option_row *row)
{
    char text[64];
    char letter[8] = "    ";

    if (row->letter)
        snprintf(letter, sizeof(letter), "-%c, ", row->letter);
    snprintf(text, sizeof(text), "%s--%s%s%s", letter, row->name, row->argument ? " " : "",
             row->argument ? row->argument : "");
    fprintf(out, "  %-32s  %s\n", text, row->sentence);
}

static int print_usage(FILE *out)
{
    fputs("usage: leafctl [-c FILE] [-o KEY=VALUE]... [--json] COMMAND [OPTION]...\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char text[32];

        snprintf(text, sizeof(text), "%s %s", commands[i].name,
                 commands[i].argument ? commands[i].argument : "");
        fprintf(out, "  %-16s  %s\n", text, commands[i].sentence);
    }
    fputs("\nOptions of all commands:\n", out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].of == GLOBAL)
            print_option(out, &options[i]);
    }
    fputs("\nleafctl COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
          out);
    return out == stdout ? ctl_flushed(CTL_OK) : CTL_USAGE;
}

static int print_command(const struct command *command)
{
    printf("usage: leafctl [OPTION]... %s%s%s\n\nleafctl %s %s.\n", command->name,
           command->argument ? " " : "", command->argument ? command->argument : "", command->name,
           command->sentence);
    if (command->options)
        puts("\nOptions:");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].of & command->options)
            print_option(stdout, &options[i]);
    }
    puts("\nleafctl --help has the options of all commands; leafctl(1) tells the rest.");
    return ctl_flushed(CTL_OK);
}

static int try_help(void)
{
    fputs("Try: leafctl --help\n", stderr);
    return CTL_USAGE;
}

/* ---- the command line ---- */

/* The first row of this name. */
static size_t first_of(const char *name)
{
    size_t i = 0;

    while (strcmp(options[i].name, name) != 0)
        i++;
    return i;
}

/* What getopt is told, from the rows above. */
static void rows_to_getopt(struct option to[static OPTION_COUNT + 1], char letters[static 64])
{
    size_t count = 0;
    size_t used = 0;

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (first_of(options[i].name) != i)
            continue;
        to[count++] =
            (struct option){options[i].name, options[i].argument ? required_argument : no_argument,
                            NULL, LONG_BASE + (int)i};
        if (!options[i].letter)
            continue;
        letters[used++] = options[i].letter;
        if (options[i].argument)
            letters[used++] = ':';
    }
    to[count] = (struct option){NULL, 0, NULL, 0};
    letters[used] = '\0';
}

static const struct option_row *row_of(int got)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (got == LONG_BASE + (int)i || (options[i].letter && got == options[i].letter))
            return &options[i];
    }
    return NULL;
}

struct line {
    struct ctl ctl;
    bool given[OPTION_COUNT]; /* by the first row of their name */
    bool help;
    bool version;
};

/* Those that may be given several times. */
static struct ctl_texts *texts_of(struct ctl *ctl, const struct option_row *row)
{
    struct ctl_texts *const all[] = {&ctl->overrides, &ctl->permit, &ctl->exclude, &ctl->env};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if ((char *)all[i] == (char *)ctl + row->offset)
            return all[i];
    return NULL;
}

static void take(struct line *line, const struct option_row *row, const char *argument)
{
    struct ctl_texts *texts = row->offset == NO_FIELD ? NULL : texts_of(&line->ctl, row);

    line->given[row - options] = true;
    if (texts)
        texts->text[texts->count++] = argument;
    else if (row->letter == 'h')
        line->help = true;
    else if (row->letter == 'V')
        line->version = true;
    else if (row->argument)
        *(const char **)((char *)&line->ctl + row->offset) = argument;
    else
        *(bool *)((char *)&line->ctl + row->offset) = true;
}

/* An option that was given and that the command does not have, or NULL. */
static const struct option_row *foreign_option(const struct line *line,
                                               const struct command *command)
{
    bool known[OPTION_COUNT] = {false};

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].of == GLOBAL || options[i].of & command->options)
            known[first_of(options[i].name)] = true;
    }
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (line->given[i] && !known[i])
            return &options[i];
    }
    return NULL;
}

/* The command that `words` begin with; *ret_words of them are its name. */
static const struct command *command_of(char **words, int count, int *ret_words)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *space = strchr(commands[i].name, ' ');

        if (!space && count >= 1 && strcmp(commands[i].name, words[0]) == 0) {
            *ret_words = 1;
            return &commands[i];
        }
        if (space && count >= 2 && strlen(words[0]) == (size_t)(space - commands[i].name) &&
            strncmp(commands[i].name, words[0], strlen(words[0])) == 0 &&
            strcmp(space + 1, words[1]) == 0) {
            *ret_words = 2;
            return &commands[i];
        }
    }
    return NULL;
}

static int no_command(char **words, int count)
{
    if (count == 0)
        return print_usage(stderr);
    if (strcmp(words[0], "ca") == 0)
        return ctl_wrong_usage("ca what? There are ca init, csr, install, show, export and crl.");
    if (strcmp(words[0], "token") == 0)
        return ctl_wrong_usage("token what? There are token list, test and unblock.");
    (void)ctl_wrong_usage("there is no command \"%s\"", words[0]);
    return try_help();
}

/* So many words behind its name. */
static bool takes(const struct command *command, int count)
{
    if (command->argument && command->argument[0] == '[')
        return count <= 1;
    return count == (command->argument ? 1 : 0);
}

static int run_words(struct line *line, char **words, int count)
{
    bool wants_help = line->help;
    const struct option_row *foreign;
    const struct command *command;
    int used = 0;

    if (count > 0 && strcmp(words[0], "help") == 0) {
        wants_help = true;
        words++;
        count--;
    }
    if (wants_help && count == 0)
        return print_usage(stdout);
    command = command_of(words, count, &used);
    if (!command)
        return no_command(words, count);
    if (wants_help)
        return print_command(command);
    foreign = foreign_option(line, command);
    if (foreign) {
        (void)ctl_wrong_usage("%s has no option --%s", command->name, foreign->name);
        return try_help();
    }
    if (!takes(command, count - used)) {
        if (command->argument && command->argument[0] == '[')
            (void)ctl_wrong_usage("%s takes one %s at most", command->name, command->argument);
        else if (command->argument)
            (void)ctl_wrong_usage("%s takes one %s", command->name, command->argument);
        else
            (void)ctl_wrong_usage("%s takes no argument", command->name);
        return try_help();
    }
    line->ctl.host = line->ctl.file = line->ctl.token = line->ctl.uri =
        count > used ? words[used] : NULL;
    return command->run(&line->ctl);
}

/* With room for as many as a command line of `argc` words can have. */
static bool texts_new(struct ctl_texts *ret, int argc)
{
    ret->text = calloc((size_t)argc + 1, sizeof(*ret->text));
    return ret->text != NULL;
}

int main(int argc, char **argv)
{
    struct option long_options[OPTION_COUNT + 1];
    struct line line = {.help = false};
    char letters[64];
    int code;
    int got;

    rows_to_getopt(long_options, letters);
    if (!texts_new(&line.ctl.overrides, argc) || !texts_new(&line.ctl.permit, argc) ||
        !texts_new(&line.ctl.exclude, argc) || !texts_new(&line.ctl.env, argc)) {
        code = ctl_failed(&(struct why){"out of memory"});
        goto out;
    }
    while ((got = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
        const struct option_row *row = row_of(got);

        if (!row) { /* getopt has said what is wrong */
            code = try_help();
            goto out;
        }
        take(&line, row, optarg);
    }
    if (line.version) {
        printf("leafctl %s\n", PACKAGE_VERSION);
        code = ctl_flushed(CTL_OK);
    } else {
        code = run_words(&line, argv + optind, argc - optind);
    }
out:
    free(line.ctl.overrides.text);
    free(line.ctl.permit.text);
    free(line.ctl.exclude.text);
    free(line.ctl.env.text);
    return code;
}
