/* test_config.c - configuration keys from text and JSON, and what bad ones get. */
#include "config/setup.h"
#include "cutwire/train.h"

#include "config/config.h"
#include "test.h"

static void defaults_are_within_their_own_rules(void **state)
{
    (void)state;
    cw_config config;
    cw_error err;
    cwi_config_init(&config);
    assert_string_equal(config.data, "fashion-mnist");
    assert_string_equal(config.uplink, "ec:err=0.15");
    for (size_t i = 0; i < cw_config_option_count(); i++) {
        const cw_config_option *o = cw_config_option_at(i);
        assert_ok_err(cw_config_set(&config, o->key, o->value, &err), err);
    }
    assert_null(cw_config_option_at(cw_config_option_count()));
}

static void json_round_trip_keeps_every_key(void **state)
{
    (void)state;
    cw_config a, b;
    char *json, *again;
    cw_error err;
    cwi_config_init(&a);
    cwi_config_init(&b);
    assert_ok(cw_config_set(&a, "lr", "0.30000000000000004", NULL));
    assert_ok(cw_config_set(&a, "seed", "18446744073709551615", NULL));
    assert_ok(cw_config_set(&a, "flip", NULL, NULL));
    assert_ok(cw_config_set(&a, "out", "some \"folder\"", NULL));
    assert_ok(cw_config_to_json(&a, false, &json, &err));
    assert_ok_err(cw_config_from_json(&b, json, strlen(json), &err), err);
    assert_ok(cw_config_to_json(&b, false, &again, &err));
    assert_string_equal(json, again);
    assert_true(b.lr == a.lr && b.seed == UINT64_MAX && b.flip);
    cwi_free(json);
    cwi_free(again);
}

static void shared_json_leaves_local_keys_at_home(void **state)
{
    (void)state;
    cw_config config;
    char *json;
    cwi_config_init(&config);
    assert_ok(cw_config_to_json(&config, true, &json, NULL));
    assert_non_null(strstr(json, "\"uplink\""));
    assert_null(strstr(json, "\"out\""));
    assert_null(strstr(json, "\"threads\""));
    cwi_free(json);
}

/* What a hostile server might put into its WELCOME. */
static void a_server_sets_shared_keys_only(void **state)
{
    (void)state;
    cw_config config, before;
    cw_error err;
    cwi_config_init(&config);
    before = config;
    for (size_t i = 0; i < cw_config_option_count(); i++) {
        const cw_config_option *o = cw_config_option_at(i);
        char json[200];
        snprintf(json, sizeof json, "{\"%s\":\"%s\"}", o->key, o->value);
        if (o->shared) {
            assert_ok_err(cwi_config_from_shared_json(&config, json, strlen(json), &err), err);
            continue;
        }
        snprintf(json, sizeof json, "{\"%s\":\"7\"}", o->key);
        assert_status(cwi_config_from_shared_json(&config, json, strlen(json), &err), CW_ERR_PROTOCOL);
        assert_non_null(strstr(err.message, o->key));
    }
    static const char folder[] = "{\"data\":\"cifar-10:/home/somebody\"}";
    assert_status(cwi_config_from_shared_json(&config, folder, strlen(folder), &err), CW_ERR_PROTOCOL);
    assert_non_null(strstr(err.message, "cifar-10:/home/somebody"));
    assert_memory_equal(&config, &before, sizeof config);
}

#define RECIPE_FILE "test-config-recipe.txt"

/* A text's shape comes with a recipe. */
static void describe_text(cw_config *config)
{
    static const char recipe[] = "cutwire-recipe 1 tokens 48\nfilm\nfine\n";
    assert_ok(cw_file_write(RECIPE_FILE, recipe, strlen(recipe), NULL));
    assert_ok(cw_config_set(config, "sample", "48", NULL));
    assert_ok(cw_config_set(config, "input", "tokens:4", NULL));
    assert_ok(cw_config_set(config, "recipe", RECIPE_FILE, NULL));
}

static void presets_are_within_the_rules_and_leave_other_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < cw_preset_count(); i++) {
        const cw_preset *p = cw_preset_at(i);
        cw_config config;
        cw_error err;
        cwi_config_init(&config);
        config.seed = 77;
        assert_ok_err(cw_config_apply_preset(&config, p->name, &err), err);
        assert_int_equal(config.seed, 77);
        assert_string_equal(config.uplink, strncmp(p->name, "paper", 5) == 0 ? "ms:r=0.99,b=2" : "ec:err=0.15");
        /* Everything fits together; the shape stands for the data set, which need not be here. */
        assert_ok(cw_config_set(&config, "sample", strstr(config.data, "image") ? "3x224x224" : "3x32x32", NULL));
        assert_ok(cw_config_set(&config, "classes", "10", NULL));
        if (strcmp(config.model, "textcnn") == 0)
            describe_text(&config);
        assert_ok_err(cw_config_check(&config, &err), err);
    }
    assert_null(cw_preset_at(cw_preset_count()));
    remove(RECIPE_FILE);
}

static void gradients_are_masked_where_it_helps(void **state)
{
    (void)state;
    static const struct {
        const char *activation, *uplink, *downlink;
        bool masked;
    } cases[] = {{"relu", "ec:err=0.15", "ec:step=4.5,round=stochastic", true},
                 {"relu", "none", "bf16", true},
                 {"relu", "ec:err=0.15", "none", false},
                 {"gelu", "ec:err=0.15", "ec:step=4.5,round=stochastic", false},
                 {"relu", "ms:r=0.9,b=2,recon=centroid", "bf16", false}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++) {
        cw_config config;
        cwi_setup setup;
        cw_error err;
        cwi_config_init(&config);
        assert_ok(cw_config_set(&config, "sample", "1x28x28", NULL));
        assert_ok(cw_config_set(&config, "classes", "10", NULL));
        assert_ok(cw_config_set(&config, "activation", cases[i].activation, NULL));
        assert_ok(cw_config_set(&config, "uplink", cases[i].uplink, NULL));
        assert_ok(cw_config_set(&config, "downlink", cases[i].downlink, NULL));
        assert_ok_err(cwi_setup_open(&config, &setup, &err), err);
        assert_true(setup.mask_gradient == cases[i].masked);
        cwi_setup_close(&setup);
        assert_ok(cw_config_set(&config, "mask-gradient", "yes", NULL));
        assert_status(cw_config_check(&config, &err), CW_ERR_SPEC);
        assert_non_null(strstr(err.message, "'yes' is none of 0, 1, auto"));
    }
}

/* Clients and files hear of what it came to, never of "auto". */
static void an_automatic_precision_is_decided_by_the_setup(void **state)
{
    (void)state;
    cw_config config;
    cwi_setup setup;
    cw_error err;
    cw_precision decided;
    char *json, pair[40];
    cwi_config_init(&config);
    assert_string_equal(config.precision, "fp32"); /* only presets ask for more */
    assert_ok(cw_config_set(&config, "sample", "1x28x28", NULL));
    assert_ok(cw_config_set(&config, "classes", "10", NULL));
    assert_ok(cw_config_set(&config, "precision", "auto", NULL));
    assert_ok(cw_precision_resolve(CW_PRECISION_AUTO, &decided, NULL));
    assert_int_not_equal(decided, CW_PRECISION_AUTO);
    assert_ok_err(cwi_setup_open(&config, &setup, &err), err);
    assert_int_equal(setup.precision, decided);
    assert_string_equal(setup.config.precision, cw_precision_name(decided));
    assert_ok_err(cwi_setup_shared_json(&setup, &json, &err), err);
    snprintf(pair, sizeof pair, "\"precision\":\"%s\"", cw_precision_name(decided));
    assert_non_null(strstr(json, pair));
    cwi_free(json);
    cwi_setup_close(&setup);
}

static void the_papers_presets_are_the_papers(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model;
        int epochs;
        double weight_decay, at[6], rate[6]; /* rate in these epochs */
    } paper[] = {
        {"paper-cifar10", "vgg19", 200, 5e-4, {0, 100}, {0.1, 0.05}},
        {"paper-cifar100", "resnet18", 200, 5e-4, {0, 59.9, 60, 120, 160, 199}, {0.1, 0.1, 0.02, 0.004, 8e-4, 8e-4}},
        {"paper-imagenet", "resnet34", 90, 1e-4, {0, 29.9, 30, 60, 89.9}, {0.1, 0.1, 0.01, 0.001, 0.001}},
    };
    for (size_t i = 0; i < CWI_COUNT(paper); i++) {
        cw_config config;
        cw_schedule schedule;
        cwi_config_init(&config);
        assert_ok(cw_config_apply_preset(&config, paper[i].name, NULL));
        assert_string_equal(config.model, paper[i].model);
        assert_true(config.epochs == paper[i].epochs && config.weight_decay == paper[i].weight_decay);
        assert_string_equal(config.uplink, "ms:r=0.99,b=2");
        assert_string_equal(config.downlink, "none");
        assert_true(config.batch == 256 && config.momentum == 0.9 && config.flip);
        assert_ok(cw_schedule_parse(config.schedule, &schedule, NULL));
        schedule.base_lr = config.lr;
        for (size_t k = 0; k < 6 && paper[i].rate[k] > 0; k++)
            assert_float_equal(cw_schedule_lr(&schedule, paper[i].at[k], config.epochs), paper[i].rate[k], 1e-6);
    }
}

static void an_unknown_preset_is_answered_with_the_known(void **state)
{
    (void)state;
    cw_config config;
    cw_error err = {0};
    cwi_config_init(&config);
    assert_status(cw_config_apply_preset(&config, "paper", &err), CW_ERR_SPEC);
    for (size_t i = 0; i < cw_preset_count(); i++)
        assert_non_null(strstr(err.message, cw_preset_at(i)->name));
}

/* Nobody should have to guess what was cut off. */
static void an_unknown_key_is_answered_with_the_known(void **state)
{
    (void)state;
    cw_config config;
    cw_error err = {0};
    char word[64];
    cwi_config_init(&config);
    assert_status(cw_config_set(&config, "colour", "1", &err), CW_ERR_SPEC);
    for (size_t i = 0; i < cw_config_option_count(); i++) {
        snprintf(word, sizeof word, i ? ", %s" : " %s", cw_config_option_at(i)->key);
        assert_non_null(strstr(err.message, word));
    }
}

/* JSON is UTF-8, paths need not be; and what is permitted once is not handed on. */
static void json_is_valid_whatever_a_path_is(void **state)
{
    (void)state;
    cw_config a, b;
    char *json;
    cw_error err;
    cwi_config_init(&a);
    cwi_config_init(&b);
    assert_ok(cw_config_set(&a, "out", "a\xff\n\xc3\xa4\xc3", NULL));
    assert_ok(cw_config_set(&a, "overwrite", NULL, NULL));
    assert_ok_err(cw_config_to_json(&a, false, &json, &err), err);
    assert_null(strstr(json, "overwrite"));
    assert_ok_err(cw_config_from_json(&b, json, strlen(json), &err), err);
    assert_string_equal(b.out, "a\xef\xbf\xbd\n\xc3\xa4\xef\xbf\xbd");
    assert_false(b.overwrite);
    cwi_free(json);
}

static void refused(const char *key, const char *value, const char *word)
{
    cw_config config;
    cw_error err = {0};
    cwi_config_init(&config);
    assert_status(cw_config_set(&config, key, value, &err), CW_ERR_SPEC);
    if (!strstr(err.message, word))
        fail_msg("'%s' does not say '%s'", err.message, word);
}

static void bad_values_are_named(void **state)
{
    (void)state;
    refused("clients", "0", "from 1 to");
    refused("clients", "-3", "clients");
    refused("clients", "2.5", "whole");
    refused("epochs", "many", "'many'");
    refused("lr", "nan", "'nan'");
    refused("lr", "inf", "'inf'");
    refused("lr", "", "lr");
    refused("lr", NULL, "needs a value");
    refused("seed", "-1", "whole");
    refused("seed", " 1", "whole");
    refused("seed", "", "whole");
    refused("seed", "99999999999999999999", "whole");
    refused("colour", "1", "known: data, model");
    char long_text[600];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    refused("model", long_text, "longer than");
}

static void bad_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"lr\":",
                                      "{\"lr\":null}",
                                      "{\"lr\":[1]}",
                                      "{\"unknown\":1}",
                                      "{\"clients\":1e99}",
                                      "{\"lr\":1,\"lr\":2}"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        cw_config config;
        cw_error err = {0};
        cwi_config_init(&config);
        assert_status(cw_config_from_json(&config, bad[i], strlen(bad[i]), &err), CW_ERR_SPEC);
        assert_true(*err.message);
    }
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"cut", "99"},
                                         {"model", "nonesuch"},
                                         {"uplink", "zip:9"},
                                         {"downlink", "ms:r=2"},
                                         {"update", "ec:step=big"},
                                         {"schedule", "zigzag"},
                                         {"precision", "fp7"},
                                         {"data", "nonesuch"},
                                         {"sample", "0x3"},
                                         {"activation", "staircase"}};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        cw_config config;
        cw_error err = {0};
        cwi_config_init(&config);
        if (strcmp(bad[i][0], "data") != 0) { /* then no data set is needed */
            assert_ok(cw_config_set(&config, "sample", "1x28x28", NULL));
            assert_ok(cw_config_set(&config, "classes", "10", NULL));
        }
        assert_ok(cw_config_set(&config, bad[i][0], bad[i][1], NULL));
        assert_true(cw_config_check(&config, &err) != CW_OK);
        assert_true(*err.message);
    }
}

static void a_rate_for_biases_wants_batch_norm(void **state)
{
    (void)state;
    cw_config config;
    cw_error err;
    cwi_config_init(&config);
    static const char *const settings[][2] = {{"sample", "9"}, {"classes", "2"}, {"model", "mlp"}, {"cut", "shallow"}};
    for (size_t i = 0; i < CWI_COUNT(settings); i++)
        assert_ok(cw_config_set(&config, settings[i][0], settings[i][1], NULL));
    assert_ok_err(cw_config_check(&config, &err), err);
    config.bias_lr = 64;
    assert_status(cw_config_check(&config, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "no batch norm"));
}

/* Through the public functions alone: what every key is, as it was set. */
static void keys_are_asked_for_by_name(void **state)
{
    (void)state;
    cw_config *config, *copy;
    cw_error err;
    char text[64];
    assert_ok_err(cw_config_create(&config, &err), err);
    assert_string_equal(cw_config_string(config, "model"), "cnn");
    assert_string_equal(cw_config_string(config, "out"), "");
    assert_int_equal(cw_config_integer(config, "epochs"), 3);
    assert_true(cw_config_real(config, "lr") == 0.1);
    assert_ok_err(cw_config_set(config, "seed", "18446744073709551615", &err), err);
    assert_ok_err(cw_config_set(config, "flip", NULL, &err), err);
    assert_ok_err(cw_config_set(config, "momentum", "0.3", &err), err);
    assert_true(cw_config_integer(config, "seed") == UINT64_MAX && cw_config_integer(config, "flip") == 1);
    /* Of another kind, or not there. */
    assert_null(cw_config_string(config, "lr"));
    assert_null(cw_config_string(config, "nothing"));
    assert_true(cw_config_integer(config, "lr") == 0 && cw_config_real(config, "epochs") == 0);
    /* As text, which can be set again. */
    assert_ok_err(cw_config_copy(config, &copy, &err), err);
    cw_config_reset(config);
    assert_int_equal(cw_config_integer(config, "seed"), 1);
    for (size_t i = 0; i < cw_config_option_count(); i++) {
        const char *key = cw_config_option_at(i)->key;
        char value[1100], again[1100];
        assert_ok_err(cw_config_get(copy, key, value, sizeof value, &err), err);
        assert_ok_err(cw_config_set(config, key, value, &err), err);
        assert_ok_err(cw_config_get(config, key, again, sizeof again, &err), err);
        assert_string_equal(value, again);
    }
    assert_true(cw_config_real(config, "momentum") == 0.3 && cw_config_integer(config, "seed") == UINT64_MAX);
    assert_status(cw_config_get(config, "seed", text, 20, &err), CW_ERR_TOO_SMALL);
    assert_string_equal(text, "");
    assert_ok_err(cw_config_get(config, "seed", text, 21, &err), err);
    assert_string_equal(text, "18446744073709551615");
    assert_status(cw_config_get(config, "nothing", text, sizeof text, &err), CW_ERR_SPEC);
    assert_non_null(strstr(err.message, "known: data, model"));
    cw_config_destroy(&config);
    cw_config_destroy(&copy);
    cw_config_destroy(&copy);
    cw_config_destroy(NULL);
    assert_null(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_asked_for_by_name),
        cmocka_unit_test(defaults_are_within_their_own_rules),
        cmocka_unit_test(json_round_trip_keeps_every_key),
        cmocka_unit_test(shared_json_leaves_local_keys_at_home),
        cmocka_unit_test(a_server_sets_shared_keys_only),
        cmocka_unit_test(presets_are_within_the_rules_and_leave_other_keys),
        cmocka_unit_test(gradients_are_masked_where_it_helps),
        cmocka_unit_test(an_automatic_precision_is_decided_by_the_setup),
        cmocka_unit_test(the_papers_presets_are_the_papers),
        cmocka_unit_test(an_unknown_preset_is_answered_with_the_known),
        cmocka_unit_test(an_unknown_key_is_answered_with_the_known),
        cmocka_unit_test(json_is_valid_whatever_a_path_is),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(a_rate_for_biases_wants_batch_norm),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
