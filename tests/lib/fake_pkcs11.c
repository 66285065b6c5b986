/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
/* A PKCS#11 module that does what a test tells it to: slow, full, failing, hanging, crashing, gone
 * and back. Its keys are PEM files and OpenSSL signs with them.
 *
 * The environment variable FAKE_PKCS11_CONTROL names the control file, read in C_Initialize and
 * again whenever it changed (looked at in every call). Write a new file and rename it over the old
 * one. Lines are `name = value`; # begins a comment. FUNCTION is C_Sign, C_Login, …, or `all`.
 *
 *   tokens = leafd other        labels, one slot each (default: leafd)
 *   key = token=0 label=ca id=01 file=/ca.pem [public=/other.pem] [flags=a,b]
 *                               one key pair per line; flags: extractable, always-authenticate,
 *                               no-sign, no-public (no public object), no-modulus (the private key
 *                               does not show it), bare-point and bits-point (CKA_EC_POINT without
 *                               an OCTET STRING, and in a BIT STRING)
 *   pin = 1234                  (default 1234)
 *   pin_flags = count-low final-try locked no-pin
 *   login_required = yes | no
 *   first_slot = 0              changing it renumbers the slots: sessions and login are lost
 *   present = yes | no          no: the tokens are out, sessions and login are lost
 *   session_epoch = 0           changing it closes all sessions, and so logs out
 *   login_epoch = 0             changing it logs out, and leaves the sessions
 *   object_offset = 0           added to every object handle: old handles are wrong, or another's
 *   max_sessions = 0            what C_GetTokenInfo says; 0 is "not known"
 *   session_limit = 0           CKR_SESSION_COUNT from so many on; 0 is none
 *   cannot_lock = yes | no      C_Initialize with CKF_OS_LOCKING_OK gives CKR_CANT_LOCK
 *   init_args = TEXT            C_Initialize gives CKR_ARGUMENTS_BAD unless pReserved is this text, with
 *                               a NULL behind it; without this line, unless pReserved is NULL
 *   no_mechanism = CKM_RSA_PKCS CKM_ECDSA      (numbers do too)
 *   more_mechanisms = CKM_AES_GCM              those that encrypt, wrap and make secret keys; they
 *                               are told of, and do nothing
 *   edwards_by_name = yes | no  C_GenerateKeyPair wants CKA_EC_PARAMS as a PrintableString
 *   own_usage = yes | no        C_GenerateKeyPair wants no word about CKA_DECRYPT
 *   made_extractable = yes | no C_GenerateKeyPair does not do as it is told
 *   latency.FUNCTION = 5000     microseconds
 *   fail.FUNCTION = CKR_DEVICE_ERROR 3 [1]     the next 3 calls (0: all), after 1 that is good; one
 *                               that says that its session is gone has lost it
 *   hang.FUNCTION = 1 [0]       so many next calls hang until the control file changes
 *   crash.FUNCTION = 1 [0]      the next call dies of SIGSEGV
 *   corrupt = 1 [3]             so many next signatures are wrong, after 3 that are good
 *   longer = 0                  octets that each signature has behind it; below 0: fewer
 *   counters = /file            lines `name value`, fixed width, kept up to date through mmap; %p is
 *                               the pid. What stands there is added to, so a process that follows
 *                               goes on counting.
 *
 * A key pair that C_GenerateKeyPair makes is there until the control file changes, or with CKA_TOKEN
 * false until its session ends.
 *
 * Threads: every function from any thread, as CKF_OS_LOCKING_OK promises; one lock around the
 * state, not held while it waits or signs. */
/* clang-format on */
#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TOKENS_MAX = 4, KEYS_MAX = 16, SESSIONS_MAX = 1024, LINE_MAX_BYTES = 1024, GONE_MAX = 16 };

/* ---- names ---- */

#define FUNCTIONS(X)                                                                               \
    X(C_Initialize)                                                                                \
    X(C_Finalize)                                                                                  \
    X(C_GetInfo)                                                                                   \
    X(C_GetSlotList)                                                                               \
    X(C_GetSlotInfo)                                                                               \
    X(C_GetTokenInfo)                                                                              \
    X(C_GetMechanismList)                                                                          \
    X(C_GetMechanismInfo)                                                                          \
    X(C_OpenSession)                                                                               \
    X(C_CloseSession)                                                                              \
    X(C_CloseAllSessions)                                                                          \
    X(C_GetSessionInfo)                                                                            \
    X(C_Login)                                                                                     \
    X(C_Logout)                                                                                    \
    X(C_GetAttributeValue)                                                                         \
    X(C_FindObjectsInit)                                                                           \
    X(C_FindObjects)                                                                               \
    X(C_FindObjectsFinal)                                                                          \
    X(C_GenerateKeyPair)                                                                           \
    X(C_DestroyObject)                                                                             \
    X(C_SignInit)                                                                                  \
    X(C_Sign)

enum function {
#define ENUM(name) FN_##name,
    FUNCTIONS(ENUM)
#undef ENUM
        FN_COUNT
};

static const char *const function_names[FN_COUNT] = {
#define NAME(name) #name,
    FUNCTIONS(NAME)
#undef NAME
};

#define NUMBER(name)                                                                               \
    {                                                                                              \
#name, name                                                                                \
    }
static const struct named {
    const char *name;
    CK_ULONG value;
} numbers[] = {
    NUMBER(CKR_OK),
    NUMBER(CKR_HOST_MEMORY),
    NUMBER(CKR_SLOT_ID_INVALID),
    NUMBER(CKR_GENERAL_ERROR),
    NUMBER(CKR_FUNCTION_FAILED),
    NUMBER(CKR_ARGUMENTS_BAD),
    NUMBER(CKR_CANT_LOCK),
    NUMBER(CKR_DATA_INVALID),
    NUMBER(CKR_DEVICE_ERROR),
    NUMBER(CKR_DEVICE_MEMORY),
    NUMBER(CKR_DEVICE_REMOVED),
    NUMBER(CKR_FUNCTION_CANCELED),
    NUMBER(CKR_KEY_HANDLE_INVALID),
    NUMBER(CKR_MECHANISM_INVALID),
    NUMBER(CKR_OBJECT_HANDLE_INVALID),
    NUMBER(CKR_OPERATION_ACTIVE),
    NUMBER(CKR_OPERATION_NOT_INITIALIZED),
    NUMBER(CKR_PIN_INCORRECT),
    NUMBER(CKR_PIN_EXPIRED),
    NUMBER(CKR_PIN_LOCKED),
    NUMBER(CKR_SESSION_CLOSED),
    NUMBER(CKR_SESSION_COUNT),
    NUMBER(CKR_SESSION_HANDLE_INVALID),
    NUMBER(CKR_TOKEN_NOT_PRESENT),
    NUMBER(CKR_TOKEN_NOT_RECOGNIZED),
    NUMBER(CKR_USER_NOT_LOGGED_IN),
    NUMBER(CKR_CRYPTOKI_NOT_INITIALIZED),
    NUMBER(CKM_RSA_PKCS),
    NUMBER(CKM_RSA_PKCS_PSS),
    NUMBER(CKM_SHA256_RSA_PKCS_PSS),
    NUMBER(CKM_RSA_PKCS_KEY_PAIR_GEN),
    NUMBER(CKM_EC_KEY_PAIR_GEN),
    NUMBER(CKM_EC_EDWARDS_KEY_PAIR_GEN),
    NUMBER(CKM_SHA256_RSA_PKCS),
    NUMBER(CKM_ECDSA),
    NUMBER(CKM_ECDSA_SHA256),
    NUMBER(CKM_ECDSA_SHA384),
    NUMBER(CKM_EDDSA),
    NUMBER(CKM_AES_KEY_GEN),
    NUMBER(CKM_AES_GCM),
    NUMBER(CKM_AES_KEY_WRAP_PAD),
    NUMBER(CKM_RSA_PKCS_OAEP),
};
#undef NUMBER

/* What the control file says that it does not understand is the test's mistake: end loudly. */
__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("fake_pkcs11: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static CK_ULONG number_of(const char *word)
{
    char *end;
    CK_ULONG value = strtoul(word, &end, 0);

    if (*word && !*end)
        return value;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(word, numbers[i].name) == 0)
            return numbers[i].value;
    die("unknown number \"%s\"", word);
}

/* ---- state: all of it under the lock ---- */

struct fault {
    CK_RV rv;
    bool forever;
    unsigned count; /* calls still to fail */
    unsigned after; /* good calls before */
};

struct fake_key {
    unsigned token;
    char label[64];
    uint8_t id[32];
    size_t id_len;
    EVP_PKEY *key;
    EVP_PKEY *shown;           /* what the public object shows; often the same */
    CK_SESSION_HANDLE session; /* whose it is; 0: the token's */
    bool extractable, always_authenticate, no_sign, no_public, no_modulus, bare_point, bits_point;
};

struct config {
    char token[TOKENS_MAX][33];
    unsigned token_count;
    struct fake_key key[KEYS_MAX];
    unsigned key_count;
    char pin[256];
    CK_FLAGS pin_flags; /* set */
    bool no_pin;
    bool login_required;
    CK_SLOT_ID first_slot;
    bool present;
    unsigned long session_epoch, login_epoch;
    unsigned long object_offset;
    CK_ULONG max_sessions;
    unsigned session_limit;
    bool cannot_lock;
    char init_args[128];
    CK_MECHANISM_TYPE gone[GONE_MAX], more[GONE_MAX];
    unsigned gone_count, more_count;
    long latency_us[FN_COUNT];
    struct fault fail[FN_COUNT];
    struct fault hang[FN_COUNT];
    struct fault crash[FN_COUNT];
    bool edwards_by_name, own_usage, made_extractable;
    struct fault corrupt;
    int longer;
    char counters[512];
};

struct fake_session {
    CK_SESSION_HANDLE handle; /* 0: free */
    unsigned token;
    CK_FLAGS flags;
    bool busy; /* a call is using it, from its first moment to its last: a second one is a race */
    bool finding;
    bool signing;
    bool shown; /* the PIN, for the operation that has begun */
    CK_MECHANISM_TYPE mechanism;
    unsigned sign_key;
    CK_OBJECT_HANDLE found[2 * KEYS_MAX];
    unsigned found_count, found_at;
};

static struct {
    pthread_mutex_t lock;
    pid_t pid; /* 0: not initialised */
    char control[512];
    struct stat control_stat;
    _Atomic unsigned control_version;
    struct config config;
    struct fake_session session[SESSIONS_MAX];
    CK_SESSION_HANDLE next_handle;
    unsigned open;
    bool logged_in[TOKENS_MAX];
    bool bad_pin[TOKENS_MAX];
    bool one_caller; /* initialised without locks */
    unsigned callers;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- counters ---- */

enum counter {
    COUNT_INITIALIZE,
    COUNT_LOGIN,
    COUNT_LOGIN_BAD,
    COUNT_LOGIN_AFTER_BAD,
    COUNT_LOGIN_AGAIN, /* with CKU_CONTEXT_SPECIFIC */
    COUNT_SESSIONS_OPEN,
    COUNT_SESSIONS_PEAK,
    COUNT_SIGN,
    COUNT_MADE, /* key pairs, in the token */
    COUNT_FORK_USE,
    COUNT_RACE,
    COUNT_NAMED,
    COUNTERS = COUNT_NAMED + FN_COUNT
};
static const char *const counter_names[COUNT_NAMED] = {
    "initialize",    "login", "login_bad",     "login_after_bad", "login_again", "sessions_open",
    "sessions_peak", "sign",  "made_in_token", "fork_use",        "race",
};
enum { COUNTER_LINE = 48, COUNTER_NAME = 26 };

static struct {
    char path[512];
    uint64_t value[COUNTERS];
    char *map;
} counters;

static void counter_show(unsigned i)
{
    char line[COUNTER_LINE + 1];

    if (!counters.map)
        return;
    snprintf(line, sizeof(line), "%-*s %020llu\n", COUNTER_NAME,
             i < COUNT_NAMED ? counter_names[i] : function_names[i - COUNT_NAMED],
             (unsigned long long)counters.value[i]);
    memcpy(counters.map + (size_t)i * COUNTER_LINE, line, COUNTER_LINE);
}

static void counter_set(unsigned i, uint64_t value)
{
    counters.value[i] = value;
    counter_show(i);
}

static void counter_add(unsigned i)
{
    counter_set(i, counters.value[i] + 1);
}

static void counters_open(const char *wanted)
{
    size_t size = (size_t)COUNTERS * COUNTER_LINE;
    char path[sizeof(counters.path) + 16];
    const char *pid = strstr(wanted, "%p");
    struct stat st;
    int fd;

    if (!*wanted || strcmp(wanted, counters.path) == 0)
        return;
    if (counters.map)
        munmap(counters.map, size);
    counters.map = NULL;
    memset(counters.value, 0, sizeof(counters.value));
    snprintf(counters.path, sizeof(counters.path), "%s", wanted);
    if (pid)
        snprintf(path, sizeof(path), "%.*s%ld%s", (int)(pid - wanted), wanted, (long)getpid(),
                 pid + 2);
    else
        snprintf(path, sizeof(path), "%s", wanted);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd == -1 || fstat(fd, &st) == -1 || ftruncate(fd, (off_t)size) == -1)
        die("%s: %s", path, strerror(errno));
    counters.map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counters.map == MAP_FAILED)
        die("%s: mmap: %s", path, strerror(errno));
    close(fd);
    for (unsigned i = 0; i < COUNTERS; i++) {
        if (st.st_size == (off_t)size && i != COUNT_SESSIONS_OPEN)
            counters.value[i] =
                strtoull(counters.map + (size_t)i * COUNTER_LINE + COUNTER_NAME, NULL, 10);
        counter_show(i);
    }
}

/* ---- the control file ---- */

static EVP_PKEY *read_key(const char *path)
{
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;

    if (!key)
        die("%s: no PEM private key", path);
    fclose(file);
    return key;
}

static void parse_id(const char *hex, struct fake_key *key)
{
    unsigned octet;

    for (key->id_len = 0; key->id_len < sizeof(key->id) && sscanf(hex, "%2x", &octet) == 1;
         hex += 2)
        key->id[key->id_len++] = (uint8_t)octet;
}

static void parse_key_flag(const char *flag, struct fake_key *key)
{
    if (strcmp(flag, "extractable") == 0)
        key->extractable = true;
    else if (strcmp(flag, "always-authenticate") == 0)
        key->always_authenticate = true;
    else if (strcmp(flag, "no-sign") == 0)
        key->no_sign = true;
    else if (strcmp(flag, "no-public") == 0)
        key->no_public = true;
    else if (strcmp(flag, "no-modulus") == 0)
        key->no_modulus = true;
    else if (strcmp(flag, "bare-point") == 0)
        key->bare_point = true;
    else if (strcmp(flag, "bits-point") == 0)
        key->bits_point = true;
    else
        die("unknown key flag \"%s\"", flag);
}

static void parse_key(char *value, struct config *config)
{
    struct fake_key *key = &config->key[config->key_count];
    char *outer;
    char *inner;

    if (config->key_count == KEYS_MAX)
        die("more than %d keys", KEYS_MAX);
    for (char *word = strtok_r(value, " ", &outer); word; word = strtok_r(NULL, " ", &outer)) {
        char *equals = strchr(word, '=');

        if (!equals)
            die("key: \"%s\" has no =", word);
        *equals++ = '\0';
        if (strcmp(word, "token") == 0)
            key->token = (unsigned)number_of(equals);
        else if (strcmp(word, "label") == 0)
            snprintf(key->label, sizeof(key->label), "%s", equals);
        else if (strcmp(word, "id") == 0)
            parse_id(equals, key);
        else if (strcmp(word, "file") == 0)
            key->key = read_key(equals);
        else if (strcmp(word, "public") == 0)
            key->shown = read_key(equals);
        else if (strcmp(word, "flags") == 0)
            for (char *flag = strtok_r(equals, ",", &inner); flag;
                 flag = strtok_r(NULL, ",", &inner))
                parse_key_flag(flag, key);
        else
            die("key: unknown \"%s\"", word);
    }
    if (!key->key)
        die("key without file=");
    if (!key->shown && EVP_PKEY_up_ref(key->key) == 1)
        key->shown = key->key;
    config->key_count++;
}

static void parse_pin_flags(char *value, struct config *config)
{
    char *next;

    for (char *word = strtok_r(value, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        if (strcmp(word, "count-low") == 0)
            config->pin_flags |= CKF_USER_PIN_COUNT_LOW;
        else if (strcmp(word, "final-try") == 0)
            config->pin_flags |= CKF_USER_PIN_FINAL_TRY;
        else if (strcmp(word, "locked") == 0)
            config->pin_flags |= CKF_USER_PIN_LOCKED;
        else if (strcmp(word, "no-pin") == 0)
            config->no_pin = true;
        else
            die("unknown pin flag \"%s\"", word);
    }
}

static void parse_tokens(char *value, struct config *config)
{
    char *next;

    config->token_count = 0;
    for (char *word = strtok_r(value, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        if (config->token_count == TOKENS_MAX)
            die("more than %d tokens", TOKENS_MAX);
        snprintf(config->token[config->token_count++], sizeof(config->token[0]), "%s", word);
    }
}

static void parse_mechanisms(char *value, CK_MECHANISM_TYPE list[GONE_MAX], unsigned *count)
{
    char *next;

    for (char *word = strtok_r(value, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        if (*count == GONE_MAX)
            die("more than %d mechanisms", GONE_MAX);
        list[(*count)++] = number_of(word);
    }
}

/* "fail.C_Sign", "latency.all", … */
static void parse_fault(char *name, char *value, struct config *config)
{
    char *dot = strchr(name, '.');
    char first[64] = "";
    unsigned count = 0;
    unsigned after = 0;
    bool known = false;

    *dot++ = '\0';
    for (unsigned i = 0; i < FN_COUNT; i++) {
        if (strcmp(dot, "all") != 0 && strcmp(dot, function_names[i]) != 0)
            continue;
        known = true;
        if (strcmp(name, "latency") == 0) {
            config->latency_us[i] = (long)number_of(value);
        } else if (strcmp(name, "fail") == 0) {
            if (sscanf(value, "%63s %u %u", first, &count, &after) < 1)
                die("fail.%s: no CKR", dot);
            config->fail[i] = (struct fault){number_of(first), count == 0, count, after};
        } else if (strcmp(name, "hang") == 0 || strcmp(name, "crash") == 0) {
            if (sscanf(value, "%u %u", &count, &after) < 1)
                die("%s.%s: no number", name, dot);
            *(name[0] == 'h' ? &config->hang[i] : &config->crash[i]) =
                (struct fault){CKR_OK, false, count, after};
        } else {
            die("unknown \"%s.%s\"", name, dot);
        }
    }
    if (!known)
        die("unknown function \"%s\"", dot);
}

static bool yes_or_no(const char *value)
{
    if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
        die("\"%s\" is neither yes nor no", value);
    return *value == 'y';
}

static void parse_corrupt(const char *value, struct config *config)
{
    if (sscanf(value, "%u %u", &config->corrupt.count, &config->corrupt.after) < 1)
        die("corrupt: no number");
}

static void parse_line(char *name, char *value, struct config *config)
{
    if (strchr(name, '.'))
        parse_fault(name, value, config);
    else if (strcmp(name, "tokens") == 0)
        parse_tokens(value, config);
    else if (strcmp(name, "key") == 0)
        parse_key(value, config);
    else if (strcmp(name, "pin") == 0)
        snprintf(config->pin, sizeof(config->pin), "%s", value);
    else if (strcmp(name, "pin_flags") == 0)
        parse_pin_flags(value, config);
    else if (strcmp(name, "login_required") == 0)
        config->login_required = yes_or_no(value);
    else if (strcmp(name, "first_slot") == 0)
        config->first_slot = number_of(value);
    else if (strcmp(name, "present") == 0)
        config->present = yes_or_no(value);
    else if (strcmp(name, "session_epoch") == 0)
        config->session_epoch = number_of(value);
    else if (strcmp(name, "login_epoch") == 0)
        config->login_epoch = number_of(value);
    else if (strcmp(name, "object_offset") == 0)
        config->object_offset = number_of(value);
    else if (strcmp(name, "max_sessions") == 0)
        config->max_sessions = number_of(value);
    else if (strcmp(name, "session_limit") == 0)
        config->session_limit = (unsigned)number_of(value);
    else if (strcmp(name, "init_args") == 0)
        snprintf(config->init_args, sizeof(config->init_args), "%s", value);
    else if (strcmp(name, "cannot_lock") == 0)
        config->cannot_lock = yes_or_no(value);
    else if (strcmp(name, "no_mechanism") == 0)
        parse_mechanisms(value, config->gone, &config->gone_count);
    else if (strcmp(name, "more_mechanisms") == 0)
        parse_mechanisms(value, config->more, &config->more_count);
    else if (strcmp(name, "edwards_by_name") == 0)
        config->edwards_by_name = yes_or_no(value);
    else if (strcmp(name, "own_usage") == 0)
        config->own_usage = yes_or_no(value);
    else if (strcmp(name, "made_extractable") == 0)
        config->made_extractable = yes_or_no(value);
    else if (strcmp(name, "longer") == 0)
        config->longer = atoi(value);
    else if (strcmp(name, "corrupt") == 0)
        parse_corrupt(value, config);
    else if (strcmp(name, "counters") == 0)
        snprintf(config->counters, sizeof(config->counters), "%s", value);
    else
        die("unknown line \"%s\"", name);
}

static void config_clear(struct config *config)
{
    for (unsigned i = 0; i < config->key_count; i++) {
        EVP_PKEY_free(config->key[i].key);
        EVP_PKEY_free(config->key[i].shown);
    }
    memset(config, 0, sizeof(*config));
}

static char *trim(char *text)
{
    size_t len;

    text += strspn(text, " \t");
    len = strlen(text);
    while (len && strchr(" \t\n", text[len - 1]))
        text[--len] = '\0';
    return text;
}

static void config_read(FILE *file, struct config *config)
{
    char line[LINE_MAX_BYTES];

    *config = (struct config){.token = {"leafd"},
                              .token_count = 1,
                              .pin = "1234",
                              .login_required = true,
                              .present = true};
    while (fgets(line, sizeof(line), file)) {
        char *text = trim(line);
        char *equals = strchr(text, '=');

        if (!*text || *text == '#')
            continue;
        if (!equals)
            die("\"%s\" has no =", text);
        *equals = '\0';
        parse_line(trim(text), trim(equals + 1), config);
    }
}

/* What is the session's goes with it; 0: all sessions. */
static void session_keys_lose(CK_SESSION_HANDLE session)
{
    for (unsigned i = 0; i < fake.config.key_count; i++)
        if (fake.config.key[i].session && (!session || fake.config.key[i].session == session))
            fake.config.key[i].token = TOKENS_MAX;
}

static void sessions_lose(void)
{
    session_keys_lose(0);
    for (unsigned i = 0; i < SESSIONS_MAX; i++)
        fake.session[i] = (struct fake_session){0};
    memset(fake.logged_in, 0, sizeof(fake.logged_in));
    fake.open = 0;
    counter_set(COUNT_SESSIONS_OPEN, 0);
}

static bool is_file(const struct stat *one, const struct stat *other)
{
    return one->st_ino == other->st_ino && one->st_size == other->st_size &&
           one->st_mtim.tv_sec == other->st_mtim.tv_sec &&
           one->st_mtim.tv_nsec == other->st_mtim.tv_nsec;
}

/* With the lock held. */
static void control_follow(void)
{
    struct config *now = &fake.config;
    struct config next;
    struct stat st;
    FILE *file;

    if (!*fake.control || stat(fake.control, &st) == -1)
        return;
    if (fake.control_version && is_file(&st, &fake.control_stat))
        return;
    file = fopen(fake.control, "re");
    if (!file)
        return;
    /* Of the file that is read: another may have taken its place since, and who takes this one for
     * that reads it again, and has each of its faults twice. */
    if (fstat(fileno(file), &st) == -1)
        die("%s: %s", fake.control, strerror(errno));
    config_read(file, &next);
    fclose(file);
    counters_open(next.counters);
    if (!next.present || next.first_slot != now->first_slot ||
        next.session_epoch != now->session_epoch)
        sessions_lose();
    if (next.login_epoch != now->login_epoch)
        memset(fake.logged_in, 0, sizeof(fake.logged_in));
    config_clear(now);
    *now = next;
    fake.control_stat = st;
    atomic_fetch_add(&fake.control_version, 1);
}

/* ---- around every call ---- */

static bool fault_due(struct fault *fault)
{
    if (!fault->forever && !fault->count)
        return false;
    if (fault->after) {
        fault->after--;
        return false;
    }
    if (!fault->forever)
        fault->count--;
    return true;
}

static void sleep_us(long us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};

    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
}

static void hang(unsigned version)
{
    while (atomic_load(&fake.control_version) == version) {
        sleep_us(10000);
        pthread_mutex_lock(&fake.lock);
        control_follow();
        pthread_mutex_unlock(&fake.lock);
    }
}

static struct fake_session *find_session(CK_SESSION_HANDLE handle)
{
    for (unsigned i = 0; handle && i < SESSIONS_MAX; i++)
        if (fake.session[i].handle == handle)
            return &fake.session[i];
    return NULL;
}

static void session_begin(CK_SESSION_HANDLE handle)
{
    struct fake_session *session = find_session(handle);

    if (!session)
        return;
    if (session->busy)
        counter_add(COUNT_RACE);
    session->busy = true;
}

/* It may have been lost meanwhile. */
static void session_end(CK_SESSION_HANDLE handle)
{
    struct fake_session *session = find_session(handle);

    if (session)
        session->busy = false;
}

/* By itself: the login stays. */
static void session_lose(CK_SESSION_HANDLE handle)
{
    struct fake_session *session = find_session(handle);

    if (!session)
        return;
    session_keys_lose(handle);
    *session = (struct fake_session){0};
    counter_set(COUNT_SESSIONS_OPEN, --fake.open);
}

/* Counts, and does what the control file wants to happen. Anything but CKR_OK is the call's result.
 * `session`: what it works on, or CK_INVALID_HANDLE. */
static CK_RV enter(enum function fn, CK_SESSION_HANDLE session)
{
    bool hangs;
    bool crashes;
    long latency;
    unsigned version;
    CK_RV rv = CKR_OK;

    pthread_mutex_lock(&fake.lock);
    if (fake.pid && fake.pid != getpid()) {
        counter_add(COUNT_FORK_USE);
        pthread_mutex_unlock(&fake.lock);
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    control_follow();
    counter_add(COUNT_NAMED + fn);
    if (fake.one_caller && fake.callers)
        counter_add(COUNT_RACE);
    fake.callers++;
    session_begin(session);
    crashes = fault_due(&fake.config.crash[fn]);
    hangs = fault_due(&fake.config.hang[fn]);
    latency = fake.config.latency_us[fn];
    version = atomic_load(&fake.control_version);
    if (fault_due(&fake.config.fail[fn]))
        rv = fake.config.fail[fn].rv;
    if (rv == CKR_OK && !fake.pid && fn != FN_C_Initialize)
        rv = CKR_CRYPTOKI_NOT_INITIALIZED;
    pthread_mutex_unlock(&fake.lock);

    if (crashes) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (latency)
        sleep_us(latency);
    if (hangs)
        hang(version);
    /* The caller's lock, until leave() or until it waits for something. */
    pthread_mutex_lock(&fake.lock);
    return rv;
}

static CK_RV leave(CK_RV rv, CK_SESSION_HANDLE session)
{
    if (rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED)
        session_lose(session);
    session_end(session);
    if (fake.callers)
        fake.callers--;
    pthread_mutex_unlock(&fake.lock);
    return rv;
}

/* Then enter() has not taken the lock. */
static bool is_forked(void)
{
    return fake.pid && fake.pid != getpid();
}

#define CALL_ON(fn, session, body)                                                                 \
    do {                                                                                           \
        CK_RV call_rv_ = enter(fn, session);                                                       \
                                                                                                   \
        if (is_forked())                                                                           \
            return call_rv_;                                                                       \
        return leave(call_rv_ == CKR_OK ? (body) : call_rv_, session);                             \
    } while (0)
#define CALL(fn, body) CALL_ON(fn, CK_INVALID_HANDLE, body)

/* ---- slots and tokens; with the lock held from here on ---- */

static bool slot_token(CK_SLOT_ID slot, unsigned *ret)
{
    if (slot < fake.config.first_slot || slot - fake.config.first_slot >= fake.config.token_count)
        return false;
    *ret = (unsigned)(slot - fake.config.first_slot);
    return true;
}

static void fill(unsigned char *field, size_t width, const char *text)
{
    size_t len = strlen(text);

    memset(field, ' ', width);
    memcpy(field, text, len < width ? len : width);
}

/* As NSS has it: a text in the place of pReserved, and pReserved behind it. */
static bool takes_init_args(const CK_C_INITIALIZE_ARGS *args)
{
    const char *text = args ? args->pReserved : NULL;
    void *const *behind = (void *const *)(const void *)(args + 1);

    if (!*fake.config.init_args)
        return !text;
    return text && strcmp(text, fake.config.init_args) == 0 && !*behind;
}

static CK_RV do_initialize(const CK_C_INITIALIZE_ARGS *args)
{
    const char *control = getenv("FAKE_PKCS11_CONTROL");

    if (fake.pid == getpid())
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (!control)
        die("FAKE_PKCS11_CONTROL is not set");
    if (strcmp(fake.control, control) != 0) {
        snprintf(fake.control, sizeof(fake.control), "%s", control);
        atomic_store(&fake.control_version, 0);
    }
    control_follow();
    if (!atomic_load(&fake.control_version))
        die("%s: %s", control, strerror(errno));
    if (!takes_init_args(args))
        return CKR_ARGUMENTS_BAD;
    if (fake.config.cannot_lock && args && (args->flags & CKF_OS_LOCKING_OK))
        return CKR_CANT_LOCK;
    sessions_lose();
    memset(fake.bad_pin, 0, sizeof(fake.bad_pin));
    fake.one_caller = fake.config.cannot_lock;
    fake.pid = getpid();
    counter_add(COUNT_INITIALIZE);
    return CKR_OK;
}

static CK_RV fake_initialize(void *args)
{
    CALL(FN_C_Initialize, do_initialize(args));
}

static CK_RV do_finalize(void)
{
    sessions_lose();
    fake.pid = 0;
    return CKR_OK;
}

static CK_RV fake_finalize(void *reserved)
{
    (void)reserved;
    CALL(FN_C_Finalize, do_finalize());
}

static CK_RV do_info(CK_INFO *info)
{
    memset(info, 0, sizeof(*info));
    info->cryptokiVersion.major = 2;
    info->cryptokiVersion.minor = 40;
    fill(info->manufacturerID, sizeof(info->manufacturerID), "leafd tests");
    fill(info->libraryDescription, sizeof(info->libraryDescription), "fake module");
    return CKR_OK;
}

static CK_RV fake_info(CK_INFO *info)
{
    CALL(FN_C_GetInfo, do_info(info));
}

static CK_RV do_slots(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    CK_ULONG have = !present || fake.config.present ? fake.config.token_count : 0;

    if (slots && *count < have) {
        *count = have;
        return CKR_BUFFER_TOO_SMALL;
    }
    for (CK_ULONG i = 0; slots && i < have; i++)
        slots[i] = fake.config.first_slot + i;
    *count = have;
    return CKR_OK;
}

static CK_RV fake_slots(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    CALL(FN_C_GetSlotList, do_slots(present, slots, count));
}

static CK_RV do_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    unsigned token;

    if (!slot_token(slot, &token))
        return CKR_SLOT_ID_INVALID;
    memset(info, 0, sizeof(*info));
    fill(info->slotDescription, sizeof(info->slotDescription), "fake slot");
    fill(info->manufacturerID, sizeof(info->manufacturerID), "leafd tests");
    info->flags = CKF_REMOVABLE_DEVICE | (fake.config.present ? CKF_TOKEN_PRESENT : 0);
    return CKR_OK;
}

static CK_RV fake_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    CALL(FN_C_GetSlotInfo, do_slot_info(slot, info));
}

static CK_RV do_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    char serial[17];
    unsigned token;

    if (!slot_token(slot, &token))
        return CKR_SLOT_ID_INVALID;
    if (!fake.config.present)
        return CKR_TOKEN_NOT_PRESENT;
    memset(info, 0, sizeof(*info));
    snprintf(serial, sizeof(serial), "%016u", token + 1);
    fill(info->label, sizeof(info->label), fake.config.token[token]);
    fill(info->manufacturerID, sizeof(info->manufacturerID), "leafd tests");
    fill(info->model, sizeof(info->model), "fake");
    fill(info->serialNumber, sizeof(info->serialNumber), serial);
    info->flags = CKF_TOKEN_INITIALIZED | fake.config.pin_flags |
                  (fake.config.login_required ? CKF_LOGIN_REQUIRED : 0) |
                  (fake.config.no_pin ? 0 : CKF_USER_PIN_INITIALIZED);
    info->ulMaxSessionCount = fake.config.max_sessions;
    info->ulSessionCount = CK_UNAVAILABLE_INFORMATION;
    info->ulMaxPinLen = 255;
    return CKR_OK;
}

static CK_RV fake_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CALL(FN_C_GetTokenInfo, do_token_info(slot, info));
}

static const CK_MECHANISM_TYPE mechanisms[] = {
    CKM_RSA_PKCS,        CKM_SHA256_RSA_PKCS,        CKM_ECDSA,
    CKM_ECDSA_SHA256,    CKM_ECDSA_SHA384,           CKM_EDDSA,
    CKM_RSA_PKCS_PSS,    CKM_SHA256_RSA_PKCS_PSS,    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKM_EC_KEY_PAIR_GEN, CKM_EC_EDWARDS_KEY_PAIR_GEN};
enum { MECHANISMS = sizeof(mechanisms) / sizeof(mechanisms[0]) };

static bool has_mechanism(CK_MECHANISM_TYPE mechanism)
{
    bool has = false;

    for (unsigned i = 0; i < MECHANISMS; i++)
        has |= mechanisms[i] == mechanism;
    for (unsigned i = 0; i < fake.config.more_count; i++)
        has |= fake.config.more[i] == mechanism;
    for (unsigned i = 0; i < fake.config.gone_count; i++)
        has &= fake.config.gone[i] != mechanism;
    return has;
}

static CK_RV do_mechanisms(CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    CK_ULONG have = 0;

    for (unsigned i = 0; i < MECHANISMS + fake.config.more_count; i++) {
        CK_MECHANISM_TYPE one = i < MECHANISMS ? mechanisms[i] : fake.config.more[i - MECHANISMS];

        if (!has_mechanism(one))
            continue;
        if (list && have < *count)
            list[have] = one;
        have++;
    }
    if (list && *count < have) {
        *count = have;
        return CKR_BUFFER_TOO_SMALL;
    }
    *count = have;
    return CKR_OK;
}

static CK_RV fake_mechanisms(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    (void)slot;
    CALL(FN_C_GetMechanismList, do_mechanisms(list, count));
}

static bool is_making(CK_MECHANISM_TYPE mechanism)
{
    return mechanism == CKM_RSA_PKCS_KEY_PAIR_GEN || mechanism == CKM_EC_KEY_PAIR_GEN ||
           mechanism == CKM_EC_EDWARDS_KEY_PAIR_GEN;
}

static CK_FLAGS mechanism_flags(CK_MECHANISM_TYPE mechanism)
{
    for (unsigned i = 0; i < fake.config.more_count; i++)
        if (fake.config.more[i] == mechanism)
            return mechanism == CKM_AES_KEY_GEN ? CKF_GENERATE : CKF_ENCRYPT | CKF_DECRYPT;
    return is_making(mechanism) ? CKF_GENERATE_KEY_PAIR : CKF_SIGN;
}

static CK_RV do_mechanism_info(CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO *info)
{
    bool is_rsa = mechanism == CKM_RSA_PKCS;

    if (!has_mechanism(mechanism))
        return CKR_MECHANISM_INVALID;
    *info = (CK_MECHANISM_INFO){.ulMinKeySize = is_rsa ? 1024 : 0,
                                .ulMaxKeySize = is_rsa ? 4096 : 0,
                                .flags = CKF_HW | mechanism_flags(mechanism)};
    return CKR_OK;
}

static CK_RV fake_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism,
                                 CK_MECHANISM_INFO *info)
{
    (void)slot;
    CALL(FN_C_GetMechanismInfo, do_mechanism_info(mechanism, info));
}

/* ---- sessions and login ---- */

static CK_RV do_open(CK_SLOT_ID slot, CK_FLAGS flags, CK_SESSION_HANDLE *ret)
{
    unsigned token;

    if (!slot_token(slot, &token))
        return CKR_SLOT_ID_INVALID;
    if (!fake.config.present)
        return CKR_TOKEN_NOT_PRESENT;
    if (!(flags & CKF_SERIAL_SESSION))
        return CKR_SESSION_PARALLEL_NOT_SUPPORTED;
    if (fake.config.session_limit && fake.open >= fake.config.session_limit)
        return CKR_SESSION_COUNT;
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        if (fake.session[i].handle)
            continue;
        fake.session[i] =
            (struct fake_session){.handle = ++fake.next_handle, .token = token, .flags = flags};
        *ret = fake.next_handle;
        fake.open++;
        counter_set(COUNT_SESSIONS_OPEN, fake.open);
        if (fake.open > counters.value[COUNT_SESSIONS_PEAK])
            counter_set(COUNT_SESSIONS_PEAK, fake.open);
        return CKR_OK;
    }
    return CKR_SESSION_COUNT;
}

static CK_RV fake_open(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                       CK_SESSION_HANDLE *ret)
{
    (void)application;
    (void)notify;
    CALL(FN_C_OpenSession, do_open(slot, flags, ret));
}

static CK_RV do_close(CK_SESSION_HANDLE handle)
{
    struct fake_session *session = find_session(handle);
    unsigned token;
    bool last = true;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    token = session->token;
    session_keys_lose(handle);
    *session = (struct fake_session){0};
    counter_set(COUNT_SESSIONS_OPEN, --fake.open);
    for (unsigned i = 0; i < SESSIONS_MAX; i++)
        last &= !fake.session[i].handle || fake.session[i].token != token;
    if (last)
        fake.logged_in[token] = false;
    return CKR_OK;
}

static CK_RV fake_close(CK_SESSION_HANDLE handle)
{
    CALL_ON(FN_C_CloseSession, handle, do_close(handle));
}

static CK_RV do_close_all(CK_SLOT_ID slot)
{
    unsigned token;

    if (!slot_token(slot, &token))
        return CKR_SLOT_ID_INVALID;
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        if (!fake.session[i].handle || fake.session[i].token != token)
            continue;
        if (fake.session[i].busy)
            counter_add(COUNT_RACE);
        (void)do_close(fake.session[i].handle);
    }
    return CKR_OK;
}

static CK_RV fake_close_all(CK_SLOT_ID slot)
{
    CALL(FN_C_CloseAllSessions, do_close_all(slot));
}

static CK_RV do_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    const struct fake_session *session = find_session(handle);
    bool rw;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    rw = session->flags & CKF_RW_SESSION;
    *info = (CK_SESSION_INFO){.slotID = fake.config.first_slot + session->token,
                              .flags = session->flags};
    if (fake.logged_in[session->token])
        info->state = rw ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
    else
        info->state = rw ? CKS_RW_PUBLIC_SESSION : CKS_RO_PUBLIC_SESSION;
    return CKR_OK;
}

static CK_RV fake_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    CALL_ON(FN_C_GetSessionInfo, handle, do_session_info(handle, info));
}

/* CKU_CONTEXT_SPECIFIC: for one operation of a key with CKA_ALWAYS_AUTHENTICATE. */
static CK_RV do_show_pin(struct fake_session *session, const unsigned char *pin, CK_ULONG len)
{
    counter_add(COUNT_LOGIN_AGAIN);
    if (!session->signing)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (fake.bad_pin[session->token])
        counter_add(COUNT_LOGIN_AFTER_BAD);
    if (len != strlen(fake.config.pin) || memcmp(pin, fake.config.pin, len) != 0) {
        counter_add(COUNT_LOGIN_BAD);
        fake.bad_pin[session->token] = true;
        return CKR_PIN_INCORRECT;
    }
    session->shown = true;
    return CKR_OK;
}

static CK_RV do_login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, const unsigned char *pin,
                      CK_ULONG len)
{
    struct fake_session *session = find_session(handle);

    if (session && user == CKU_CONTEXT_SPECIFIC)
        return do_show_pin(session, pin, len);
    counter_add(COUNT_LOGIN);
    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (fake.bad_pin[session->token])
        counter_add(COUNT_LOGIN_AFTER_BAD);
    if (fake.config.pin_flags & CKF_USER_PIN_LOCKED)
        return CKR_PIN_LOCKED;
    if (fake.logged_in[session->token])
        return CKR_USER_ALREADY_LOGGED_IN;
    if (!pin || len != strlen(fake.config.pin) || memcmp(pin, fake.config.pin, len) != 0) {
        counter_add(COUNT_LOGIN_BAD);
        fake.bad_pin[session->token] = true;
        return CKR_PIN_INCORRECT;
    }
    fake.logged_in[session->token] = true;
    fake.bad_pin[session->token] = false;
    return CKR_OK;
}

static CK_RV fake_login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, unsigned char *pin,
                        CK_ULONG len)
{
    CALL_ON(FN_C_Login, handle, do_login(handle, user, pin, len));
}

static CK_RV do_logout(CK_SESSION_HANDLE handle)
{
    const struct fake_session *session = find_session(handle);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!fake.logged_in[session->token])
        return CKR_USER_NOT_LOGGED_IN;
    fake.logged_in[session->token] = false;
    return CKR_OK;
}

static CK_RV fake_logout(CK_SESSION_HANDLE handle)
{
    CALL_ON(FN_C_Logout, handle, do_logout(handle));
}

/* ---- objects: key i is private handle 2i+1 and public handle 2i+2, plus the offset ---- */

static bool find_object(const struct fake_session *session, CK_OBJECT_HANDLE handle,
                        unsigned *ret_key, bool *ret_private)
{
    CK_OBJECT_HANDLE at = handle - fake.config.object_offset - 1;

    if (handle <= fake.config.object_offset || at / 2 >= fake.config.key_count)
        return false;
    *ret_key = (unsigned)(at / 2);
    *ret_private = at % 2 == 0;
    if (fake.config.key[*ret_key].token != session->token)
        return false;
    return *ret_private ? fake.logged_in[session->token] || !fake.config.login_required
                        : !fake.config.key[*ret_key].no_public;
}

struct value {
    uint8_t data[1024];
    size_t len;
};

static bool value_of(struct value *value, const void *data, size_t len)
{
    memcpy(value->data, data, len);
    value->len = len;
    return true;
}

static bool value_bool(struct value *value, bool yes)
{
    CK_BBOOL octet = yes ? CK_TRUE : CK_FALSE;

    return value_of(value, &octet, sizeof(octet));
}

static bool value_ulong(struct value *value, CK_ULONG number)
{
    return value_of(value, &number, sizeof(number));
}

/* In an OCTET STRING, as PKCS#11 2.40 wants it, unless the key's flags say otherwise. */
static bool value_point(struct value *value, const struct fake_key *key)
{
    bool is_ec = EVP_PKEY_is_a(key->shown, "EC");
    const char *param = is_ec ? OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY : OSSL_PKEY_PARAM_PUB_KEY;
    size_t header = key->bare_point ? 0 : key->bits_point ? 3 : 2;
    size_t len;

    if (EVP_PKEY_get_octet_string_param(key->shown, param, value->data + header, 124, &len) != 1)
        return false;
    if (key->bits_point)
        value->data[2] = 0; /* unused bits */
    if (header) {
        value->data[0] = key->bits_point ? 0x03 : 0x04;
        value->data[1] = (uint8_t)(len + header - 2);
    }
    value->len = len + header;
    return true;
}

static bool value_bn(struct value *value, EVP_PKEY *key, const char *param)
{
    BIGNUM *number = NULL;

    if (EVP_PKEY_get_bn_param(key, param, &number) != 1)
        return false;
    value->len = (size_t)BN_bn2bin(number, value->data);
    BN_free(number);
    return true;
}

/* The named curve, DER. */
static bool value_curve(struct value *value, EVP_PKEY *key)
{
    char name[64] = "";
    unsigned char *at = value->data;
    int nid = NID_ED25519;
    int len;

    if (EVP_PKEY_is_a(key, "EC")) {
        if (EVP_PKEY_get_group_name(key, name, sizeof(name), NULL) != 1)
            return false;
        nid = OBJ_sn2nid(name);
    }
    len = i2d_ASN1_OBJECT(OBJ_nid2obj(nid), &at);
    value->len = len > 0 ? (size_t)len : 0;
    return len > 0;
}

/* False: no such attribute. */
static bool attribute_value(const struct fake_key *key, bool is_private, CK_ATTRIBUTE_TYPE type,
                            struct value *value)
{
    bool is_rsa = EVP_PKEY_is_a(key->key, "RSA") || EVP_PKEY_is_a(key->key, "RSA-PSS");
    EVP_PKEY *shown = is_private ? key->key : key->shown;

    switch (type) {
    case CKA_CLASS:
        return value_ulong(value, is_private ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY);
    case CKA_TOKEN:
        return value_bool(value, !key->session);
    case CKA_PRIVATE:
        return value_bool(value, is_private);
    case CKA_LABEL:
        return value_of(value, key->label, strlen(key->label));
    case CKA_ID:
        return value_of(value, key->id, key->id_len);
    case CKA_KEY_TYPE:
        return value_ulong(value, is_rsa                          ? CKK_RSA
                                  : EVP_PKEY_is_a(key->key, "EC") ? CKK_EC
                                                                  : CKK_EC_EDWARDS);
    case CKA_SIGN:
        return is_private && value_bool(value, !key->no_sign);
    case CKA_ALWAYS_AUTHENTICATE:
        return is_private && value_bool(value, key->always_authenticate);
    case CKA_SENSITIVE:
    case CKA_ALWAYS_SENSITIVE:
    case CKA_NEVER_EXTRACTABLE:
        return is_private && value_bool(value, !key->extractable);
    case CKA_EXTRACTABLE:
        return is_private && value_bool(value, key->extractable);
    case CKA_MODULUS:
        return is_rsa && !(is_private && key->no_modulus) &&
               value_bn(value, shown, OSSL_PKEY_PARAM_RSA_N);
    case CKA_PUBLIC_EXPONENT:
        return is_rsa && value_bn(value, shown, OSSL_PKEY_PARAM_RSA_E);
    case CKA_EC_PARAMS:
        return !is_rsa && value_curve(value, key->key);
    case CKA_EC_POINT: /* private keys seldom show it */
        return !is_rsa && !is_private && value_point(value, key);
    default:
        return false;
    }
}

static CK_RV do_attributes(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *list,
                           CK_ULONG count)
{
    const struct fake_session *session = find_session(handle);
    unsigned key;
    bool is_private;
    CK_RV rv = CKR_OK;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!find_object(session, object, &key, &is_private))
        return CKR_OBJECT_HANDLE_INVALID;
    for (CK_ULONG i = 0; i < count; i++) {
        struct value value;

        if (!attribute_value(&fake.config.key[key], is_private, list[i].type, &value)) {
            list[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_ATTRIBUTE_TYPE_INVALID;
        } else if (list[i].pValue && list[i].ulValueLen < value.len) {
            list[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_BUFFER_TOO_SMALL;
        } else {
            if (list[i].pValue)
                memcpy(list[i].pValue, value.data, value.len);
            list[i].ulValueLen = value.len;
        }
    }
    return rv;
}

static CK_RV fake_attributes(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *list,
                             CK_ULONG count)
{
    CALL_ON(FN_C_GetAttributeValue, handle, do_attributes(handle, object, list, count));
}

static bool object_matches(const struct fake_key *key, bool is_private, const CK_ATTRIBUTE *wanted,
                           CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++) {
        struct value value;

        if (!attribute_value(key, is_private, wanted[i].type, &value) ||
            value.len != wanted[i].ulValueLen ||
            (value.len && memcmp(value.data, wanted[i].pValue, value.len) != 0))
            return false;
    }
    return true;
}

static CK_RV do_find_init(CK_SESSION_HANDLE handle, const CK_ATTRIBUTE *wanted, CK_ULONG count)
{
    struct fake_session *session = find_session(handle);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (session->finding)
        return CKR_OPERATION_ACTIVE;
    session->finding = true;
    session->found_count = session->found_at = 0;
    for (unsigned i = 0; i < 2 * fake.config.key_count; i++) {
        CK_OBJECT_HANDLE object = fake.config.object_offset + i + 1;
        unsigned key;
        bool is_private;

        if (find_object(session, object, &key, &is_private) &&
            object_matches(&fake.config.key[key], is_private, wanted, count))
            session->found[session->found_count++] = object;
    }
    return CKR_OK;
}

static CK_RV fake_find_init(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *wanted, CK_ULONG count)
{
    CALL_ON(FN_C_FindObjectsInit, handle, do_find_init(handle, wanted, count));
}

static CK_RV do_find(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *out, CK_ULONG max, CK_ULONG *ret)
{
    struct fake_session *session = find_session(handle);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!session->finding)
        return CKR_OPERATION_NOT_INITIALIZED;
    for (*ret = 0; *ret < max && session->found_at < session->found_count; (*ret)++)
        out[*ret] = session->found[session->found_at++];
    return CKR_OK;
}

static CK_RV fake_find(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *out, CK_ULONG max, CK_ULONG *ret)
{
    CALL_ON(FN_C_FindObjects, handle, do_find(handle, out, max, ret));
}

static CK_RV do_find_final(CK_SESSION_HANDLE handle)
{
    struct fake_session *session = find_session(handle);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!session->finding)
        return CKR_OPERATION_NOT_INITIALIZED;
    session->finding = false;
    return CKR_OK;
}

static CK_RV fake_find_final(CK_SESSION_HANDLE handle)
{
    CALL_ON(FN_C_FindObjectsFinal, handle, do_find_final(handle));
}

/* ---- making and destroying ---- */

static const CK_ATTRIBUTE *attribute_in(const CK_ATTRIBUTE *list, CK_ULONG count,
                                        CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (list[i].type == type)
            return &list[i];
    return NULL;
}

/* NULL and the reason for a curve that is not known, or known by another name. */
static EVP_PKEY *key_by_template(CK_MECHANISM_TYPE mechanism, const CK_ATTRIBUTE *list,
                                 CK_ULONG count)
{
    static const struct {
        CK_MECHANISM_TYPE mechanism;
        const char *params;
        const char *group; /* NULL: Ed25519 */
        bool by_name;
    } curves[] = {
        {CKM_EC_KEY_PAIR_GEN, "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", "P-256", false},
        {CKM_EC_EDWARDS_KEY_PAIR_GEN, "\x06\x03\x2b\x65\x70", NULL, false},
        {CKM_EC_EDWARDS_KEY_PAIR_GEN,
         "\x13\x0c"
         "edwards25519",
         NULL, true},
    };
    const CK_ATTRIBUTE *params = attribute_in(list, count, CKA_EC_PARAMS);
    const CK_ATTRIBUTE *bits = attribute_in(list, count, CKA_MODULUS_BITS);

    if (mechanism == CKM_RSA_PKCS_KEY_PAIR_GEN)
        return bits ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) * (CK_ULONG *)bits->pValue)
                    : NULL;
    for (size_t i = 0; params && i < sizeof(curves) / sizeof(curves[0]); i++) {
        if (mechanism != curves[i].mechanism || params->ulValueLen != strlen(curves[i].params) ||
            memcmp(params->pValue, curves[i].params, params->ulValueLen) != 0)
            continue;
        if (curves[i].group)
            return EVP_PKEY_Q_keygen(NULL, NULL, "EC", curves[i].group);
        return curves[i].by_name == fake.config.edwards_by_name
                   ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                   : NULL;
    }
    return NULL;
}

static CK_RV do_generate(CK_SESSION_HANDLE handle, CK_MECHANISM_TYPE mechanism,
                         const CK_ATTRIBUTE *public, CK_ULONG public_count, bool decrypt_is_said,
                         CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private)
{
    const struct fake_session *session = find_session(handle);
    const CK_ATTRIBUTE *label = attribute_in(public, public_count, CKA_LABEL);
    const CK_ATTRIBUTE *id = attribute_in(public, public_count, CKA_ID);
    const CK_ATTRIBUTE *stays = attribute_in(public, public_count, CKA_TOKEN);
    struct fake_key *key = &fake.config.key[fake.config.key_count];

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!(session->flags & CKF_RW_SESSION))
        return CKR_SESSION_READ_ONLY;
    if (!fake.logged_in[session->token])
        return CKR_USER_NOT_LOGGED_IN;
    if (!is_making(mechanism) || !has_mechanism(mechanism))
        return CKR_MECHANISM_INVALID;
    if (fake.config.own_usage && decrypt_is_said)
        return CKR_GENERAL_ERROR;
    if (fake.config.key_count == KEYS_MAX || !label || label->ulValueLen >= sizeof(key->label) ||
        !id || id->ulValueLen > sizeof(key->id))
        return CKR_TEMPLATE_INCONSISTENT;
    *key = (struct fake_key){.token = session->token,
                             .extractable = fake.config.made_extractable,
                             .id_len = id->ulValueLen};
    memcpy(key->label, label->pValue, label->ulValueLen);
    memcpy(key->id, id->pValue, id->ulValueLen);
    key->key = key_by_template(mechanism, public, public_count);
    if (!key->key)
        return CKR_CURVE_NOT_SUPPORTED;
    if (EVP_PKEY_up_ref(key->key) == 1)
        key->shown = key->key;
    *ret_private = fake.config.object_offset + 2 * fake.config.key_count + 1;
    *ret_public = *ret_private + 1;
    if (stays && *(CK_BBOOL *)stays->pValue)
        counter_add(COUNT_MADE);
    else
        key->session = handle;
    fake.config.key_count++;
    return CKR_OK;
}

static CK_RV fake_generate(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public,
                           CK_ULONG public_count, CK_ATTRIBUTE *private, CK_ULONG private_count,
                           CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private)
{
    bool decrypt_is_said = attribute_in(private, private_count, CKA_DECRYPT) != NULL;

    CALL_ON(FN_C_GenerateKeyPair, handle,
            do_generate(handle, mechanism->mechanism, public, public_count, decrypt_is_said,
                        ret_public, ret_private));
}

/* Either half takes the pair away. */
static CK_RV do_destroy(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object)
{
    const struct fake_session *session = find_session(handle);
    unsigned key;
    bool is_private;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!find_object(session, object, &key, &is_private))
        return CKR_OBJECT_HANDLE_INVALID;
    fake.config.key[key].token = TOKENS_MAX;
    return CKR_OK;
}

static CK_RV fake_destroy(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object)
{
    CALL_ON(FN_C_DestroyObject, handle, do_destroy(handle, object));
}

/* ---- signing ---- */

static bool is_pss(CK_MECHANISM_TYPE mechanism)
{
    return mechanism == CKM_RSA_PKCS_PSS || mechanism == CKM_SHA256_RSA_PKCS_PSS;
}

/* SHA-256 throughout and 32 octets of salt for PSS, nothing for all others. */
static bool has_good_parameter(const CK_MECHANISM *mechanism)
{
    const CK_RSA_PKCS_PSS_PARAMS *pss = mechanism->pParameter;

    if (!is_pss(mechanism->mechanism))
        return !pss && !mechanism->ulParameterLen;
    return pss && mechanism->ulParameterLen == sizeof(*pss) && pss->hashAlg == CKM_SHA256 &&
           pss->mgf == CKG_MGF1_SHA256 && pss->sLen == 32;
}

static CK_RV do_sign_init(CK_SESSION_HANDLE handle, const CK_MECHANISM *mechanism,
                          CK_OBJECT_HANDLE object)
{
    struct fake_session *session = find_session(handle);
    unsigned key;
    bool is_private;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (session->signing)
        return CKR_OPERATION_ACTIVE;
    if (fake.config.login_required && !fake.logged_in[session->token])
        return CKR_USER_NOT_LOGGED_IN;
    if (!find_object(session, object, &key, &is_private) || !is_private)
        return CKR_KEY_HANDLE_INVALID;
    if (!has_mechanism(mechanism->mechanism))
        return CKR_MECHANISM_INVALID;
    if (!has_good_parameter(mechanism))
        return CKR_MECHANISM_PARAM_INVALID;
    session->signing = true;
    session->shown = false;
    session->mechanism = mechanism->mechanism;
    session->sign_key = key;
    return CKR_OK;
}

static CK_RV fake_sign_init(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism,
                            CK_OBJECT_HANDLE object)
{
    CALL_ON(FN_C_SignInit, handle, do_sign_init(handle, mechanism, object));
}

/* ECDSA-Sig-Value to r||s. */
static bool split_ecdsa(const uint8_t *der, size_t len, size_t half, uint8_t *out)
{
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)len);
    bool ok = pair && BN_bn2binpad(ECDSA_SIG_get0_r(pair), out, (int)half) > 0 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(pair), out + half, (int)half) > 0;

    ECDSA_SIG_free(pair);
    return ok;
}

static bool sign_eddsa(EVP_PKEY *key, const uint8_t *data, size_t data_len, uint8_t *out,
                       size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1;

    *len = 64;
    ok = ok && EVP_DigestSign(ctx, out, len, data, data_len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* Without the lock: this is where the time goes. */
static bool sign_software(EVP_PKEY *key, CK_MECHANISM_TYPE mechanism, const uint8_t *data,
                          size_t data_len, uint8_t *out, size_t *len)
{
    const EVP_MD *md = mechanism == CKM_ECDSA_SHA384 ? EVP_sha384() : EVP_sha256();
    bool is_rsa = EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS");
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint8_t raw[1024];
    size_t raw_len = sizeof(raw);
    unsigned digest_len = 0;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool on_message =
        mechanism != CKM_RSA_PKCS && mechanism != CKM_ECDSA && mechanism != CKM_RSA_PKCS_PSS;
    bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1;

    if (ok && is_pss(mechanism)) /* the hash first: OpenSSL checks the digest's length */
        ok = EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 &&
             EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, 32) == 1;
    else if (ok && is_rsa)
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    if (ok && on_message) {
        ok = EVP_Digest(data, data_len, digest, &digest_len, md, NULL) == 1 &&
             EVP_PKEY_CTX_set_signature_md(ctx, md) == 1;
        data = digest;
        data_len = digest_len;
    }
    ok = ok && EVP_PKEY_sign(ctx, raw, &raw_len, data, data_len) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (ok && is_rsa) {
        memcpy(out, raw, raw_len);
        *len = raw_len;
    } else if (ok) {
        *len = 2 * (((size_t)EVP_PKEY_get_bits(key) + 7) / 8);
        ok = split_ecdsa(raw, raw_len, *len / 2, out);
    }
    ERR_clear_error();
    return ok;
}

static CK_RV do_sign(CK_SESSION_HANDLE handle, const uint8_t *data, CK_ULONG data_len, uint8_t *out,
                     CK_ULONG *len)
{
    struct fake_session *session = find_session(handle);
    uint8_t signature[1024];
    size_t signature_len = 0;
    CK_MECHANISM_TYPE mechanism;
    EVP_PKEY *key;
    bool ok;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!session->signing || session->sign_key >= fake.config.key_count)
        return CKR_OPERATION_NOT_INITIALIZED;
    session->signing = false;
    if (fake.config.key[session->sign_key].always_authenticate && !session->shown)
        return CKR_USER_NOT_LOGGED_IN;
    mechanism = session->mechanism;
    key = fake.config.key[session->sign_key].key;
    if (EVP_PKEY_up_ref(key) != 1)
        return CKR_HOST_MEMORY;
    pthread_mutex_unlock(&fake.lock);
    ok = mechanism == CKM_EDDSA
             ? sign_eddsa(key, data, data_len, signature, &signature_len)
             : sign_software(key, mechanism, data, data_len, signature, &signature_len);
    pthread_mutex_lock(&fake.lock);
    EVP_PKEY_free(key); /* under the lock: ThreadSanitizer does not see libcrypto's own counting */
    session = find_session(handle); /* it may have been lost meanwhile */
    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!ok)
        return CKR_DATA_INVALID;
    if (fake.config.longer > 0)
        memset(signature + signature_len, 0, (size_t)fake.config.longer);
    signature_len += (size_t)fake.config.longer;
    if (*len < signature_len) {
        *len = signature_len;
        return CKR_BUFFER_TOO_SMALL;
    }
    if (fault_due(&fake.config.corrupt))
        signature[signature_len / 2] ^= 1;
    memcpy(out, signature, signature_len);
    *len = signature_len;
    counter_add(COUNT_SIGN);
    return CKR_OK;
}

/* A C_Sign that fails ends the operation too. */
static CK_RV sign_ended(CK_SESSION_HANDLE handle, CK_RV rv)
{
    struct fake_session *session = find_session(handle);

    if (session)
        session->signing = false;
    return rv;
}

static CK_RV fake_sign(CK_SESSION_HANDLE handle, unsigned char *data, CK_ULONG data_len,
                       unsigned char *out, CK_ULONG *len)
{
    CK_RV rv = enter(FN_C_Sign, handle);

    if (is_forked())
        return rv;
    return leave(rv == CKR_OK ? do_sign(handle, data, data_len, out, len) : sign_ended(handle, rv),
                 handle);
}

/* ---- the list ---- */

/* Nobody should call these; one that does gets an answer instead of a jump to address 0. */
static CK_RV not_supported(void)
{
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret)
{
    static CK_FUNCTION_LIST list;
    void (**function)(void) = (void (**)(void))(void *)&list.C_Initialize;
    size_t count = (sizeof(list) - offsetof(CK_FUNCTION_LIST, C_Initialize)) / sizeof(*function);

    for (size_t i = 0; i < count; i++)
        function[i] = (void (*)(void))not_supported;
    list.version.major = 2;
    list.version.minor = 40;
    list.C_Initialize = fake_initialize;
    list.C_Finalize = fake_finalize;
    list.C_GetInfo = fake_info;
    list.C_GetFunctionList = C_GetFunctionList;
    list.C_GetSlotList = fake_slots;
    list.C_GetSlotInfo = fake_slot_info;
    list.C_GetTokenInfo = fake_token_info;
    list.C_GetMechanismList = fake_mechanisms;
    list.C_GetMechanismInfo = fake_mechanism_info;
    list.C_OpenSession = fake_open;
    list.C_CloseSession = fake_close;
    list.C_CloseAllSessions = fake_close_all;
    list.C_GetSessionInfo = fake_session_info;
    list.C_Login = fake_login;
    list.C_Logout = fake_logout;
    list.C_GetAttributeValue = fake_attributes;
    list.C_FindObjectsInit = fake_find_init;
    list.C_FindObjects = fake_find;
    list.C_FindObjectsFinal = fake_find_final;
    list.C_GenerateKeyPair = fake_generate;
    list.C_DestroyObject = fake_destroy;
    list.C_SignInit = fake_sign_init;
    list.C_Sign = fake_sign;
    *ret = &list;
    return CKR_OK;
}
