/* test_pace.c - the uplink's codec over a run. */
#include "train/pace.h"

#include "test.h"

static void assert_spec(cwi_pace *pace, double progress, const char *expected)
{
    const cw_codec *codec;
    cw_error err;
    assert_ok_err(cwi_pace_at(pace, progress, &codec, &err), err);
    if (!strstr(cw_codec_spec(codec), expected))
        fail_msg("at %g: %s, expected %s", progress, cw_codec_spec(codec), expected);
}

static void a_codec_stays_what_it_is(void **state)
{
    (void)state;
    cwi_pace pace;
    cw_error err;
    const cw_codec *first, *last;
    assert_ok_err(cwi_pace_open("ms:r=0.9", &pace, &err), err);
    assert_ok(cwi_pace_at(&pace, 0, &first, &err));
    assert_ok(cwi_pace_at(&pace, 1, &last, &err));
    assert_ptr_equal(first, last);
    assert_spec(&pace, 0.5, "ms:r=0.9,");
    cwi_pace_close(&pace);
    cwi_pace_close(&pace); /* closing twice is closing once */
}

static void auto_halves_its_error_in_equal_times(void **state)
{
    (void)state;
    cwi_pace pace;
    cw_error err;
    assert_ok_err(cwi_pace_open("auto:accuracy", &pace, &err), err);
    assert_spec(&pace, 0, "err=0.6,");
    cwi_pace_close(&pace);
    assert_ok_err(cwi_pace_open("auto:accuracy,to=0.1,from=0.4", &pace, &err), err);
    cwi_pace_close(&pace);
    assert_ok_err(cwi_pace_open("auto:to=0.1,from=0.4", &pace, &err), err);
    assert_spec(&pace, 0, "err=0.4,");
    assert_spec(&pace, 0.5, "err=0.2,");
    assert_spec(&pace, 1, "err=0.1,");
    assert_spec(&pace, 1.5, "err=0.1,"); /* no finer than asked for, whatever the caller counts */
    assert_spec(&pace, 0, "err=0.4,");   /* progress alone decides, not what was before */
    cwi_pace_close(&pace);
}

static void what_auto_does_not_know_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "auto:from",    "auto:from=",    "auto:from=0", "auto:to=1",          "auto:to=nan",
        "auto:to=0.1x", "auto:step=0.1", "auto:,",      "auto:from=0.1,,",    "autos",
        "auto:from=-1", "AUTO",          "auto,to=0.1", "auto:accuracy=high", "auto:mbps=2"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        cwi_pace pace;
        cw_error err = {0};
        assert_status(cwi_pace_open(bad[i], &pace, &err), CW_ERR_SPEC);
        assert_true(*err.message);
        cwi_pace_close(&pace);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_codec_stays_what_it_is),
        cmocka_unit_test(auto_halves_its_error_in_equal_times),
        cmocka_unit_test(what_auto_does_not_know_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
