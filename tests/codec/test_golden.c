/* test_golden.c - the payloads of tests/golden decode to the tensors beside them, bit for bit, for ever: they are what
 * version 1 of the format means. The folder is the argument. */
#include <dirent.h>

#include "codec_test.h"

static const char *folder;

static void check(const char *name)
{
    char path[600];
    cw_error err;
    packed p;
    cw_tensor wanted, got;
    snprintf(path, sizeof path, "%s/%s.cw", folder, name);
    assert_ok_err(cw_file_read(path, &p.bytes, &p.size, &err), err);
    snprintf(path, sizeof path, "%s/%s.npy", folder, name);
    assert_ok_err(cw_npy_load(path, &wanted, &err), err);
    assert_ok(cw_tensor_alloc(&got, CW_F32, &wanted.shape));
    for (int threads = 1; threads <= 2; threads++) {
        assert_ok_err(cw_decode(p.bytes, p.size, &got, &(cw_decode_args){.threads = threads}, &err), err);
        size_t count;
        assert_ok(cw_shape_count(&wanted.shape, &count));
        if (memcmp(wanted.data, got.data, 4 * count) != 0)
            fail_msg("%s decodes to something else than it used to", path);
    }
    cw_tensor_free(&wanted);
    cw_tensor_free(&got);
    cw_bytes_free(p.bytes);
}

static void golden_payloads_decode_as_ever(void **state)
{
    (void)state;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[256];
        snprintf(name, sizeof name, "%s", entry->d_name);
        char *end = strstr(name, ".cw");
        if (!end)
            continue;
        *end = '\0';
        check(name);
        count++;
    }
    closedir(dir);
    assert_true(count >= 14);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    folder = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_payloads_decode_as_ever)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
