/* golden_decode.c - the golden payloads, decoded without a test library, so that scripts/check_golden can build it for
 * any machine: golden_decode FOLDER. Prints how many there are; fails when one decodes to something else. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cutwire/codec.h"
#include "cutwire/io.h"

static char *path_of(const char *folder, const char *name, const char *ending)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    return path;
}

static bool is_wanted(const char *folder, const char *name, const cw_tensor *got, size_t count)
{
    FILE *f = fopen(path_of(folder, name, ".crc32c"), "r");
    if (f) {
        unsigned sum = 0;
        const bool found = fscanf(f, "%8x", &sum) == 1;
        fclose(f);
        return found && sum == cwi_crc32c(0, got->data, 4 * count);
    }
    cw_tensor wanted;
    if (cw_npy_load(path_of(folder, name, ".npy"), &wanted, NULL) != CW_OK)
        return false;
    const bool same = cw_shape_equal(&wanted.shape, &got->shape) && memcmp(wanted.data, got->data, 4 * count) == 0;
    cw_tensor_free(&wanted);
    return same;
}

/* Of payloads that take one, or NULL. */
static cw_profile *profile_of(const char *folder, const char *name)
{
    uint8_t *bytes;
    size_t size;
    cw_profile *profile = NULL;
    if (!strstr(name, "profile") || cw_file_read(path_of(folder, name, ".profile"), &bytes, &size, NULL) != CW_OK)
        return NULL;
    cw_profile_create(bytes, size, &profile, NULL);
    cw_bytes_free(bytes);
    return profile;
}

static bool check(const char *folder, const char *name)
{
    uint8_t *payload;
    size_t size;
    cw_payload_info info;
    cw_tensor got;
    cw_error err;
    if (cw_file_read(path_of(folder, name, ".cw"), &payload, &size, &err) != CW_OK ||
        cw_payload_inspect(payload, size, &info, &err) != CW_OK || cw_tensor_alloc(&got, CW_F32, &info.shape) != CW_OK)
        return false;
    uint8_t *support = strstr(name, "support") ? malloc(info.elements) : NULL;
    for (size_t i = 0; support && i < info.elements; i++)
        support[i] = i % 3 != 0;
    cw_profile *profile = profile_of(folder, name);
    const cw_decode_args args = {.support = support, .profile = profile};
    bool same = cw_decode(payload, size, &got, &args, &err) == CW_OK;
    same = same && is_wanted(folder, name, &got, info.elements);
    if (!same)
        fprintf(stderr, "golden_decode: %s decodes to something else: %s\n", name, err.message);
    free(support);
    cw_profile_destroy(&profile);
    cw_tensor_free(&got);
    cw_bytes_free(payload);
    return same;
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    int count = 0, wrong = 0;
    if (!dir) {
        fprintf(stderr, "usage: golden_decode FOLDER\n");
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[256];
        snprintf(name, sizeof name, "%s", entry->d_name);
        char *end = strstr(name, ".cw");
        if (!end)
            continue;
        *end = '\0';
        wrong += !check(argv[1], name);
        count++;
    }
    closedir(dir);
    printf("%d golden payloads, %d decode to something else\n", count, wrong);
    return count == 0 || wrong > 0;
}
