/* replay.c - feeds every file of the given folders to a fuzz target, so that its corpus is an ordinary test. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "cutwire/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    uint8_t *data;
    size_t size;
    cw_error err;
    if (cw_file_read(path, &data, &size, &err) != CW_OK) {
        fprintf(stderr, "replay: %s\n", err.message);
        return 1;
    }
    LLVMFuzzerTestOneInput(data, size);
    cw_bytes_free(data);
    return 0;
}

static int replay_folder(const char *folder, size_t *files)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        fprintf(stderr, "replay: cannot open %s\n", folder);
        return 1;
    }
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        failed |= replay_file(path);
        ++*files;
    }
    closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    size_t files = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= replay_folder(argv[i], &files);
    printf("%zu inputs replayed\n", files);
    return failed || files == 0;
}
