/* test_golden.c - the payloads of tests/golden decode to the tensors beside them, bit for bit, for ever: they are what
 * versions 1 and 2 (ec_v2_...) of the format mean. Beside large ones is the checksum of their tensor. The folder is the
 * argument. */
#include <dirent.h>

#include "codec_test.h"
#include "cutwire/io.h"

static const char *folder;

static char *path_of(const char *name, const char *ending)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    return path;
}

static void assert_wanted(const char *name, const cw_tensor *got, size_t count)
{
    cw_error err;
    FILE *f = fopen(path_of(name, ".crc32c"), "r");
    if (f) {
        unsigned sum;
        assert_int_equal(fscanf(f, "%8x", &sum), 1);
        fclose(f);
        if (sum != cwi_crc32c(0, got->data, 4 * count))
            fail_msg("%s decodes to something else than it used to", name);
        return;
    }
    cw_tensor wanted;
    assert_ok_err(cw_npy_load(path_of(name, ".npy"), &wanted, &err), err);
    assert_true(cw_shape_equal(&wanted.shape, &got->shape));
    if (memcmp(wanted.data, got->data, 4 * count) != 0)
        fail_msg("%s decodes to something else than it used to", name);
    cw_tensor_free(&wanted);
}

/* What the payload of a bf16 tensor decodes to as such is the floats, rounded. */
static void check_bf16(const packed *p, const cw_tensor *floats, size_t count)
{
    uint16_t *wanted = cwi_alloc(count, 2);
    cw_tensor y;
    assert_ok(cw_tensor_alloc(&y, CW_BF16, &floats->shape));
    to_bf16(floats, count, wanted);
    decode_into(p, &y);
    assert_memory_equal(y.data, wanted, 2 * count);
    cw_tensor_free(&y);
    cwi_free(wanted);
}

/* Of payloads that were encoded with one: all elements but each third. */
static uint8_t *support_of(const char *name, size_t count)
{
    uint8_t *support = strstr(name, "support") ? cwi_alloc(count, 1) : NULL;
    for (size_t i = 0; support && i < count; i++)
        support[i] = i % 3 != 0;
    return support;
}

/* Of payloads that take one. */
static cw_profile *profile_of(const char *name)
{
    uint8_t *bytes;
    size_t size;
    cw_error err;
    cw_profile *profile = NULL;
    if (!strstr(name, "profile"))
        return NULL;
    assert_ok_err(cw_file_read(path_of(name, ".profile"), &bytes, &size, &err), err);
    assert_ok_err(cw_profile_create(bytes, size, &profile, &err), err);
    cw_bytes_free(bytes);
    return profile;
}

static void check(const char *name, int *bf16)
{
    cw_error err;
    packed p;
    cw_payload_info info;
    cw_tensor got;
    assert_ok_err(cw_file_read(path_of(name, ".cw"), &p.bytes, &p.size, &err), err);
    assert_ok_err(cw_payload_inspect(p.bytes, p.size, &info, &err), err);
    assert_ok(cw_tensor_alloc(&got, CW_F32, &info.shape));
    uint8_t *support = support_of(name, info.elements);
    cw_profile *profile = profile_of(name);
    for (int threads = 1; threads <= 2; threads++) {
        const cw_decode_args args = {.threads = threads, .support = support, .profile = profile};
        assert_ok_err(cw_decode(p.bytes, p.size, &got, &args, &err), err);
        assert_wanted(name, &got, info.elements);
    }
    if (info.dtype == CW_BF16) {
        check_bf16(&p, &got, info.elements);
        ++*bf16;
    }
    cwi_free(support);
    cw_profile_destroy(&profile);
    cw_tensor_free(&got);
    cw_bytes_free(p.bytes);
}

static void golden_payloads_decode_as_ever(void **state)
{
    (void)state;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int count = 0, bf16 = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[256];
        snprintf(name, sizeof name, "%s", entry->d_name);
        char *end = strstr(name, ".cw");
        if (!end)
            continue;
        *end = '\0';
        check(name, &bf16);
        count++;
    }
    closedir(dir);
    assert_int_equal(count, 48);
    assert_int_equal(bf16, 1);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    folder = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_payloads_decode_as_ever)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
