/* SPDX-License-Identifier: Apache-2.0 */
/* The main of a fuzz target without a fuzzer: gives it every file of the folders (or the files)
 * named on the command line, so that a corpus is a regression test with any compiler. */
#include "tests/fuzz/fuzz.h"

#include "base/bytes.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static size_t replayed;

static int replay_file(const char *path)
{
    struct bytes input;
    struct why why;

    if (bytes_read_file(path, 1 << 24, &input, &why) != LEAFD_OK) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    LLVMFuzzerTestOneInput(input.data, input.len);
    free((void *)input.data);
    replayed++;
    return 0;
}

static int replay_folder(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int bad = 0;

    if (!dir) {
        perror(path);
        return 1;
    }
    while ((entry = readdir(dir))) {
        char file[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        bad |= replay_file(file);
    }
    closedir(dir);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;

    for (int i = 1; i < argc; i++) {
        struct stat info;

        bad |= stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode) ? replay_folder(argv[i])
                                                                  : replay_file(argv[i]);
    }
    printf("%s: %zu inputs\n", argv[0], replayed);
    return bad || replayed == 0;
}
