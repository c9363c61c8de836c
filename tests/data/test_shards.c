/* test_shards.c - shards are disjoint, complete, of the promised sizes, and follow the seed. */
#include "cutwire/data.h"
#include "data_files.h"
#include "out_of_memory.h"

enum { SAMPLES = 1000 };

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

static void assert_partition(const cw_shards *s)
{
    uint8_t seen[SAMPLES] = {0};
    for (size_t c = 0; c < s->clients; c++) {
        assert_true(s->count[c] > 0);
        for (size_t i = 0; i < s->count[c]; i++) {
            assert_true(s->index[c][i] < SAMPLES);
            assert_true(i == 0 || s->index[c][i] > s->index[c][i - 1]);
            assert_int_equal(seen[s->index[c][i]]++, 0);
        }
    }
    for (size_t i = 0; i < SAMPLES; i++)
        assert_int_equal(seen[i], 1);
}

static void even_shards_partition_the_split(void **state)
{
    (void)state;
    static const size_t clients[] = {1, 3, 4, 7, 999, SAMPLES};
    for (size_t k = 0; k < CWI_COUNT(clients); k++) {
        cw_shards s;
        cw_error err;
        assert_ok_err(cw_shards_make(ds, clients[k], 0, 1, &s, &err), err);
        assert_int_equal(s.clients, clients[k]);
        assert_partition(&s);
        for (size_t c = 0; c < clients[k]; c++)
            assert_true(s.count[c] - SAMPLES / clients[k] <= 1);
        cw_shards_free(&s);
        cw_shards_free(&s);
    }
}

/* How unevenly a client's labels are spread: 0.1 when even, 1 when all are of one class; the mean over clients. */
static double concentration(const cw_shards *s)
{
    double mean = 0;
    for (size_t c = 0; c < s->clients; c++) {
        double of_class[10] = {0}, sum = 0;
        for (size_t i = 0; i < s->count[c]; i++)
            of_class[cw_dataset_label(ds, s->index[c][i])]++;
        for (int k = 0; k < 10; k++)
            sum += of_class[k] * of_class[k];
        mean += sum / ((double)s->count[c] * (double)s->count[c]) / (double)s->clients;
    }
    return mean;
}

static void skewed_shards_partition_the_split(void **state)
{
    (void)state;
    static const double alpha[] = {1e-5, 0.01, 0.1, 1, 100};
    double last = 2;
    for (size_t k = 0; k < CWI_COUNT(alpha); k++) {
        cw_shards s;
        cw_error err;
        assert_ok_err(cw_shards_make(ds, 8, alpha[k], 3, &s, &err), err);
        assert_partition(&s);
        double now = concentration(&s);
        assert_true(now < last);
        assert_true(alpha[k] > 0.05 || now > 0.5);
        last = now;
        cw_shards_free(&s);
    }
    assert_true(last < 0.13);
}

static bool same(const cw_shards *a, const cw_shards *b)
{
    bool equal = a->clients == b->clients;
    for (size_t c = 0; equal && c < a->clients; c++)
        equal = a->count[c] == b->count[c] && memcmp(a->index[c], b->index[c], a->count[c] * sizeof **a->index) == 0;
    return equal;
}

static void the_seed_alone_decides(void **state)
{
    (void)state;
    for (int skewed = 0; skewed < 2; skewed++) {
        cw_shards a, b, c;
        double alpha = skewed ? 0.5 : 0;
        assert_ok(cw_shards_make(ds, 5, alpha, 11, &a, NULL));
        assert_ok(cw_shards_make(ds, 5, alpha, 11, &b, NULL));
        assert_ok(cw_shards_make(ds, 5, alpha, 12, &c, NULL));
        assert_true(same(&a, &b));
        assert_false(same(&a, &c));
        cw_shards_free(&a);
        cw_shards_free(&b);
        cw_shards_free(&c);
    }
}

static void impossible_splits_are_refused(void **state)
{
    (void)state;
    cw_shards s;
    cw_error err;
    assert_status(cw_shards_make(ds, 0, 0, 1, &s, &err), CW_ERR_INVALID);
    assert_status(cw_shards_make(ds, SAMPLES + 1, 0, 1, &s, &err), CW_ERR_INVALID);
    assert_status(cw_shards_make(ds, SAMPLES, 0.1, 1, &s, &err), CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "fewer clients"));
    assert_null(s.index);
}

static void failed_allocations_leak_nothing(void **state)
{
    (void)state;
    for (int skewed = 0; skewed < 2; skewed++) {
        for (oom_scan scan = {0}; !scan.done;) {
            cw_shards s;
            oom_begin(&scan);
            oom_end(&scan, cw_shards_make(ds, 4, skewed ? 0.5 : 0, 1, &s, NULL));
            cw_shards_free(&s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(even_shards_partition_the_split), cmocka_unit_test(skewed_shards_partition_the_split),
        cmocka_unit_test(the_seed_alone_decides),          cmocka_unit_test(impossible_splits_are_refused),
        cmocka_unit_test(failed_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
