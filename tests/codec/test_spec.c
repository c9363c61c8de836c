/* test_spec.c - spec strings: what they mean, what is refused, and whether the refusal helps. */
#include "codec_test.h"

static void check_canonical(const char *spec, const char *canonical)
{
    cw_codec *codec = codec_of(spec), *again = codec_of(canonical);
    assert_string_equal(cw_codec_spec(codec), canonical);
    assert_string_equal(cw_codec_spec(again), canonical);
    cw_codec_destroy(&codec);
    cw_codec_destroy(&again);
    assert_null(codec);
}

static void specs_have_a_canonical_form(void **state)
{
    (void)state;
    check_canonical("none", "none");
    check_canonical("fp16", "fp16");
    check_canonical("bf16", "bf16");
    check_canonical("ms", "ms:r=0.99,b=2,round=nearest,recon=edge,values=fp32,scope=tensor,entropy=none");
    check_canonical("ms:b=8,r=0,round=floor",
                    "ms:r=0,b=8,round=floor,recon=edge,values=fp32,scope=tensor,entropy=none");
    check_canonical("ms:r=9.5e-1,scope=sample,values=bf16,recon=centroid",
                    "ms:r=0.95,b=2,round=nearest,recon=centroid,values=bf16,scope=sample,entropy=none");
    check_canonical("ms:r=0.95875", "ms:r=0.95875,b=2,round=nearest,recon=edge,values=fp32,scope=tensor,entropy=none");
    check_canonical("ec", "ec:err=0.25,bpe=0,bytes=0,step=0,round=nearest,scope=tensor,layout=auto,effort=best");
    check_canonical("ec:bytes=20000,scope=sample",
                    "ec:err=0,bpe=0,bytes=2e+04,step=0,round=nearest,scope=sample,layout=auto,effort=best");
    check_canonical("ec:err=0,step=2,layout=nlc",
                    "ec:err=0,bpe=0,bytes=0,step=2,round=nearest,scope=tensor,layout=nlc,effort=best");
    check_canonical("sp", "sp:r=0.95875,values=fp32,scope=tensor");
    check_canonical("rt:r=0.95875,alpha=10,seed=1", "rt:r=0.95875,alpha=0.1,values=fp32,seed=1");
    check_canonical("rt:alpha=0.3,seed=18446744073709551615",
                    "rt:r=0.95875,alpha=0.3,values=fp32,seed=18446744073709551615");
    check_canonical("qu:b=3", "qu:b=3,round=nearest,scope=tensor,seed=0");
    check_canonical("ms:r=-0", "ms:r=0,b=2,round=nearest,recon=edge,values=fp32,scope=tensor,entropy=none");
}

static void refused(const char *spec, const char *names, uint64_t offset)
{
    cw_codec *codec = (cw_codec *)&codec;
    cw_error err;
    assert_status(cw_codec_create(spec, &codec, &err), CW_ERR_SPEC);
    assert_null(codec);
    if (!strstr(err.message, names))
        fail_msg("%s: \"%s\" does not say \"%s\"", spec, err.message, names);
    assert_int_equal(err.offset, offset);
}

static void bad_specs_are_refused_with_help(void **state)
{
    (void)state;
    refused("", "the codecs are none, fp16, bf16, ms", 0);
    refused("msx", "unknown codec \"msx\": the codecs are none, fp16, bf16, ms", 0);
    refused("MS", "unknown codec \"MS\"", 0);
    refused(":r=0.9", "unknown codec", 0);
    refused("ms:q=1", "no key \"q\": its keys are r=[0,1) b=1..8 round=floor|nearest", 3);
    refused("ms:", "no key \"\"", 3);
    refused("ms:r=0.9,", "no key \"\"", 9);
    refused("ms:r", "key \"r\" of codec ms has no value", 3);
    refused("ms:r=0.9,b", "key \"b\" of codec ms has no value", 9);
    refused("ms:r=1", "r must be a number in [0,1)", 5);
    refused("ms:r=-0.1", "r must be a number in [0,1)", 5);
    refused("ms:r=nan", "r must be a number in [0,1)", 5);
    refused("ms:r=0x1p-1", "r must be a number in [0,1)", 5);
    refused("ms:r= 0.5", "r must be a number in [0,1)", 5);
    refused("ms:r=", "r must be a number in [0,1)", 5);
    refused("ms:b=0", "b must be a whole number from 1 to 8", 5);
    refused("ms:b=9", "b must be a whole number from 1 to 8", 5);
    refused("ms:b=2.5", "b must be a whole number from 1 to 8", 5);
    refused("ms:b=-1", "b must be a whole number from 1 to 8", 5);
    refused("ms:b=99999999999999999999999", "b must be a whole number from 1 to 8", 5);
    refused("ms:round=up", "round must be one of floor|nearest", 9);
    refused("ms:round=floor|nearest", "round must be one of floor|nearest", 9);
    refused("ms:r=0.9,r=0.8", "given twice", 9);
    refused("none:r=1", "takes no keys: write \"none\" alone", 5);
    refused("none:", "takes no keys", 5);
    refused("ms:bb=2", "no key \"bb\"", 3);
    refused("rt:alpha=100", "alpha must be a number in [0,100)", 9);
    refused("rt:seed=-1", "seed must be a whole number from 0 to 2^64-1", 8);
    refused("ec:err=0.1,step=2", "codec ec takes err or step, not both", 3);
    refused("ec:step=2,bytes=1000,err=0.1", "codec ec takes err or step, not both", 3);
    refused("qu:round=floor", "round must be one of nearest|stochastic", 9);
    refused("ms:r=0.9;b=2", "r must be a number in [0,1)", 5);
}

static void null_arguments_are_refused(void **state)
{
    (void)state;
    cw_codec *codec = (cw_codec *)&codec;
    cw_error err;
    assert_status(cw_codec_create(NULL, &codec, &err), CW_ERR_INVALID);
    assert_null(codec);
    assert_status(cw_codec_create("none", NULL, &err), CW_ERR_INVALID);
    assert_status(cw_codec_create("nope", &codec, NULL), CW_ERR_SPEC);
    cw_codec_destroy(NULL);
    cw_codec_destroy(&codec);
}

static void the_registry_lists_what_can_be_created(void **state)
{
    (void)state;
    assert_null(cw_codec_family_at(cw_codec_family_count()));
    for (size_t i = 0; i < cw_codec_family_count(); i++) {
        const cw_codec_family *f = cw_codec_family_at(i);
        cw_codec *codec = codec_of(f->name);
        /* every key of the canonical spec is listed, in that order */
        const char *listed = f->keys;
        for (const char *p = strpbrk(cw_codec_spec(codec), ":"); p; p = strchr(p + 1, ',')) {
            char key[32];
            snprintf(key, sizeof key, "%.*s", (int)strcspn(p + 1, "=") + 1, p + 1);
            assert_non_null(strstr(listed, key));
            listed = strstr(listed, key);
        }
        assert_true(*f->summary != 0);
        cw_codec_destroy(&codec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specs_have_a_canonical_form),
        cmocka_unit_test(bad_specs_are_refused_with_help),
        cmocka_unit_test(null_arguments_are_refused),
        cmocka_unit_test(the_registry_lists_what_can_be_created),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
