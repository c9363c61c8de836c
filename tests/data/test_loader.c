/* test_loader.c - batches: complete, in the seed's order, augmented by each sample's own stream, the same whatever the
 * number of threads, and resumable at any batch. */
#include <math.h>

#include "base/base.h"
#include "cutwire/data.h"
#include "data_files.h"
#include "out_of_memory.h"

enum { SAMPLES = 103, PIXELS = 784 };

static cw_dataset *ds;

static int setup(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    write_fashion(SAMPLES, SAMPLES, false);
    return cw_dataset_open(spec_of("fashion-mnist"), CW_SPLIT_TRAIN, &ds, NULL) == CW_OK ? 0 : -1;
}

static int teardown(void **state)
{
    cw_dataset_close(&ds);
    return remove_folder(state);
}

static cw_loader *make(const cw_loader_options *o)
{
    cw_loader *l;
    cw_error err;
    assert_ok_err(cw_loader_create(ds, NULL, 0, o, &l, &err), err);
    return l;
}

static float normalized(unsigned byte)
{
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    return ((float)byte / 255.0f - info->mean[0]) / info->std[0];
}

static unsigned pixel(size_t image, int y, int x)
{
    return y < 0 || x < 0 || y > 27 || x > 27 ? 0 : (unsigned)((image * 31 + (size_t)(y * 28 + x)) % 251);
}

static void without_options_samples_come_as_they_are(void **state)
{
    (void)state;
    cw_loader *l = make(&(cw_loader_options){.batch = 10});
    assert_int_equal(cw_loader_batches(l), 11);
    cw_batch b;
    cw_error err;
    size_t seen = 0;
    cw_status status;
    while ((status = cw_loader_next(l, &b, &err)) == CW_OK) {
        assert_int_equal(b.n, seen < 100 ? 10 : 3);
        for (size_t i = 0; i < b.n; i++, seen++) {
            assert_int_equal(b.index[i], seen);
            assert_int_equal(b.labels[i], seen % 10);
            for (int p = 0; p < PIXELS; p++)
                assert_true(fabsf(b.x[i * PIXELS + (size_t)p] - normalized(pixel(seen, p / 28, p % 28))) < 1e-5f);
        }
    }
    assert_int_equal(status, CW_END);
    assert_int_equal(seen, SAMPLES);
    assert_status(cw_loader_next(l, &b, &err), CW_END);
    assert_ok(cw_loader_seek(l, 1, 0));
    assert_ok(cw_loader_next(l, &b, &err));
    cw_loader_destroy(&l);
    cw_loader_destroy(&l);
}

static void an_epoch_is_a_permutation_of_its_own(void **state)
{
    (void)state;
    cw_loader *l = make(&(cw_loader_options){.batch = SAMPLES, .shuffle = true, .seed = 5});
    uint32_t order[3][SAMPLES];
    for (unsigned e = 0; e < 3; e++) {
        uint8_t seen[SAMPLES] = {0};
        cw_batch b;
        assert_ok(cw_loader_seek(l, e % 2, 0));
        assert_ok(cw_loader_next(l, &b, NULL));
        memcpy(order[e], b.index, sizeof order[e]);
        for (size_t i = 0; i < SAMPLES; i++)
            assert_int_equal(seen[b.index[i]]++, 0);
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
    assert_memory_equal(order[0], order[2], sizeof order[0]);
    cw_loader_destroy(&l);
}

/* Whether x is image `sample` moved by (dy, dx) and perhaps mirrored. */
static bool is_moved(const float *x, size_t sample, int dy, int dx, bool flip)
{
    for (int p = 0; p < PIXELS; p++) {
        int col = flip ? 27 - p % 28 : p % 28;
        if (fabsf(x[p] - normalized(pixel(sample, p / 28 + dy, col + dx))) > 1e-5f)
            return false;
    }
    return true;
}

static void augmentation_flips_and_crops(void **state)
{
    (void)state;
    cw_loader *l = make(&(cw_loader_options){.batch = SAMPLES, .flip = true, .crop_pad = 2, .seed = 9});
    size_t flips = 0, at[5][5] = {{0}};
    bool flipped[SAMPLES] = {false};
    cw_batch b;
    for (unsigned epoch = 0; epoch < 5; epoch++) {
        assert_ok(cw_loader_seek(l, epoch, 0));
        assert_ok(cw_loader_next(l, &b, NULL));
        for (size_t i = 0; i < b.n; i++) {
            bool found = false;
            for (int k = 0; k < 50 && !found; k++) {
                int dy = k / 10 - 2, dx = k / 2 % 5 - 2;
                found = is_moved(b.x + i * PIXELS, b.index[i], dy, dx, k & 1);
                if (!found)
                    continue;
                assert_true(epoch == 0 || flipped[b.index[i]] != (k & 1));
                flipped[b.index[i]] = k & 1;
                flips += k & 1;
                at[dy + 2][dx + 2]++;
            }
            assert_true(found);
        }
    }
    assert_in_range(flips, SAMPLES * 5 * 45 / 100,
                    SAMPLES * 5 * 55 / 100); /* 4 epochs make one half, the fifth about */
    for (int k = 0; k < 25; k++)
        assert_true(at[k / 5][k % 5] > 0);
    cw_loader_destroy(&l);
}

static void a_crop_larger_than_the_image_is_black(void **state)
{
    (void)state;
    cw_loader *l = make(&(cw_loader_options){.batch = SAMPLES, .flip = true, .crop_pad = 200, .seed = 9});
    cw_batch b;
    assert_ok(cw_loader_next(l, &b, NULL));
    size_t black = 0;
    for (size_t i = 0; i < b.n; i++)
        black += is_moved(b.x + i * PIXELS, 0, 500, 500, false);
    assert_true(black > SAMPLES / 2);
    cw_loader_destroy(&l);
}

/* CRC of all that an epoch gives, from first_batch on. */
static uint32_t digest(cw_loader *l, uint64_t epoch, size_t first_batch)
{
    uint32_t crc = 0;
    cw_batch b;
    assert_ok(cw_loader_seek(l, epoch, first_batch));
    cw_status status;
    while ((status = cw_loader_next(l, &b, NULL)) == CW_OK) {
        crc = cwi_crc32c(crc, b.x, b.n * PIXELS * sizeof *b.x);
        crc = cwi_crc32c(crc, b.labels, b.n * sizeof *b.labels);
        crc = cwi_crc32c(crc, b.index, b.n * sizeof *b.index);
    }
    assert_int_equal(status, CW_END);
    return crc;
}

static void threads_change_nothing(void **state)
{
    (void)state;
    cw_loader_options o = {.batch = 8, .shuffle = true, .flip = true, .crop_pad = 4, .seed = 42};
    cw_loader *l = make(&o);
    uint32_t expected[3];
    for (uint64_t e = 0; e < 3; e++)
        expected[e] = digest(l, e, e);
    cw_loader_destroy(&l);
    static const int threads[] = {1, 2, 5, 64};
    for (size_t t = 0; t < CWI_COUNT(threads); t++) {
        o.threads = threads[t];
        l = make(&o);
        for (unsigned round = 0; round < 12; round++)
            assert_int_equal(digest(l, round % 3, round % 3), expected[round % 3]);
        cw_loader_destroy(&l);
    }
}

static void seeking_in_the_middle_is_exact(void **state)
{
    (void)state;
    cw_loader_options o = {.batch = 10, .shuffle = true, .flip = true, .crop_pad = 4, .seed = 1, .threads = 2};
    cw_loader *l = make(&o), *resumed = make(&o);
    for (size_t first = 0; first <= cw_loader_batches(l); first++) {
        cw_batch b;
        assert_ok(cw_loader_seek(l, 7, 0));
        for (size_t i = 0; i < first; i++)
            assert_ok(cw_loader_next(l, &b, NULL));
        uint32_t crc = 0;
        while (cw_loader_next(l, &b, NULL) == CW_OK) {
            crc = cwi_crc32c(crc, b.x, b.n * PIXELS * sizeof *b.x);
            crc = cwi_crc32c(crc, b.labels, b.n * sizeof *b.labels);
            crc = cwi_crc32c(crc, b.index, b.n * sizeof *b.index);
        }
        assert_int_equal(digest(resumed, 7, first), crc);
    }
    assert_status(cw_loader_seek(l, 0, 12), CW_ERR_INVALID);
    cw_loader_destroy(&l);
    cw_loader_destroy(&resumed);
}

/* A sample looks the same whoever's shard it is in. */
static void shards_do_not_change_samples(void **state)
{
    (void)state;
    cw_loader_options o = {.batch = SAMPLES, .shuffle = true, .flip = true, .crop_pad = 4, .seed = 3};
    cw_loader *whole = make(&o), *part;
    uint32_t mine[] = {5, 17, 64, 102};
    assert_ok(cw_loader_create(ds, mine, 4, &o, &part, NULL));
    cw_batch a, b;
    assert_ok(cw_loader_seek(whole, 2, 0));
    assert_ok(cw_loader_seek(part, 2, 0));
    assert_ok(cw_loader_next(whole, &a, NULL));
    assert_ok(cw_loader_next(part, &b, NULL));
    assert_int_equal(b.n, 4);
    for (size_t i = 0; i < b.n; i++) {
        size_t k = 0;
        while (a.index[k] != b.index[i])
            k++;
        assert_memory_equal(a.x + k * PIXELS, b.x + i * PIXELS, PIXELS * sizeof *a.x);
    }
    cw_loader_destroy(&whole);
    cw_loader_destroy(&part);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    cw_loader *l;
    cw_error err;
    const cw_loader_options bad[] = {{.batch = 0},
                                     {.batch = 1, .threads = -1},
                                     {.batch = 1, .threads = 1000},
                                     {.batch = 1, .crop_pad = -1},
                                     {.batch = 1, .crop_pad = 100000}};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        assert_status(cw_loader_create(ds, NULL, 0, &bad[i], &l, &err), CW_ERR_INVALID);
        assert_null(l);
    }
    uint32_t outside = SAMPLES;
    cw_loader_options o = {.batch = 1};
    assert_status(cw_loader_create(ds, &outside, 1, &o, &l, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "103"));
    assert_status(cw_loader_create(ds, &outside, 0, &o, &l, &err), CW_ERR_INVALID);
}

static void failed_allocations_leak_nothing(void **state)
{
    (void)state;
    cw_loader_options o = {.batch = 7};
    for (oom_scan scan = {0}; !scan.done;) {
        cw_loader *l;
        oom_begin(&scan);
        cw_status status = cw_loader_create(ds, NULL, 0, &o, &l, NULL);
        oom_end(&scan, status);
        cw_loader_destroy(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_options_samples_come_as_they_are),
        cmocka_unit_test(an_epoch_is_a_permutation_of_its_own),
        cmocka_unit_test(augmentation_flips_and_crops),
        cmocka_unit_test(a_crop_larger_than_the_image_is_black),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(seeking_in_the_middle_is_exact),
        cmocka_unit_test(shards_do_not_change_samples),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(failed_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
