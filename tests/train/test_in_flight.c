/* test_in_flight.c - batches cut into micro-batches that are on their way at once: the same network, whatever carries
 * them. */
#include "train_test.h"

#include "test.h"

static cw_config cut_config(int clients, int in_flight, const char *uplink, const char *downlink)
{
    cw_config config = small_config(clients, uplink, downlink);
    config.epochs = 1;
    config.in_flight = in_flight;
    return config;
}

/* Of batches of 48 and a last one of 20; 30 micro-batches are more than the last batch has samples. */
static void one_client_is_unsplit_training_with_micro_batches(void **state)
{
    (void)state;
    static const int in_flight[] = {2, 5, 30};
    for (size_t i = 0; i < sizeof in_flight / sizeof in_flight[0]; i++) {
        cw_config whole = cut_config(1, in_flight[i], "none", "none"), split = whole, tcp = whole;
        cw_result a, b, c;
        cw_error err;
        use_folder(&whole, "tickets-whole");
        use_folder(&split, "tickets-split");
        use_folder(&tcp, "tickets-tcp");
        assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
        assert_ok_err(cw_train_inproc(&split, NULL, &b, &err), err);
        assert_ok_err(train_over_tcp(&tcp, &c, &err), err);
        assert_same_report(&a, &b);
        assert_same_report(&a, &c);
        assert_same_model(&whole, &split);
        assert_same_model(&whole, &tcp);
    }
}

static void several_clients_add_up_in_the_same_order(void **state)
{
    (void)state;
    cw_config whole = cut_config(3, 4, "none", "none"), split = whole;
    cw_result a, b;
    cw_error err;
    whole.dirichlet = split.dirichlet = 0.3; /* clients run out of batches at different steps */
    use_folder(&whole, "tickets-whole-3");
    use_folder(&split, "tickets-split-3");
    assert_ok_err(cw_train_unsplit(&whole, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&split, NULL, &b, &err), err);
    assert_true(a.last.train_loss == b.last.train_loss);
    assert_same_parameters(&whole, &split);
}

/* Codecs that draw at random and supports belong to their micro-batch; who is faster does not matter. */
static void coded_micro_batches_are_the_same_over_tcp(void **state)
{
    (void)state;
    cw_config split = cut_config(2, 3, "ec:err=0.2", "ec:step=3,round=stochastic,scope=sample"), tcp;
    cw_result a, b;
    cw_error err;
    assert_ok(cw_config_set(&split, "update", "ec:step=0.125,round=stochastic", NULL));
    assert_ok(cw_config_set(&split, "mask-gradient", "1", NULL));
    tcp = split;
    use_folder(&split, "tickets-coded");
    use_folder(&tcp, "tickets-coded-tcp");
    assert_ok_err(cw_train_inproc(&split, NULL, &a, &err), err);
    assert_ok_err(train_over_tcp(&tcp, &b, &err), err);
    assert_same_report(&a, &b);
    assert_same_model(&split, &tcp);
    assert_true(a.last.up.payload == b.last.up.payload && a.last.down.payload == b.last.down.payload);
}

/* Without batch norm and dropout the mean over micro-batches is the mean over the batch, but for rounding. */
static void micro_batches_change_batch_norm_alone(void **state)
{
    (void)state;
    cw_config one = cut_config(1, 1, "none", "none"), four;
    cw_result a, b;
    cw_error err;
    snprintf(one.model, sizeof one.model, "mlp");
    snprintf(one.cut, sizeof one.cut, "1");
    one.lr = 0.01;
    four = one;
    four.in_flight = 4;
    assert_ok_err(cw_train_inproc(&one, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&four, NULL, &b, &err), err);
    assert_true(a.last.train_loss != b.last.train_loss);
    assert_true(a.last.train_loss - b.last.train_loss < 1e-4 && b.last.train_loss - a.last.train_loss < 1e-4);
}

static void a_run_goes_on_with_its_micro_batches(void **state)
{
    (void)state;
    cw_config whole = cut_config(2, 3, "ec:err=0.2", "ec:step=3,round=stochastic"), first, second;
    cw_result a, b;
    cw_error err;
    whole.epochs = 2;
    whole.schedule[0] = '\0';
    snprintf(whole.schedule, sizeof whole.schedule, "constant");
    first = whole;
    use_folder(&whole, "tickets-never-stopped");
    use_folder(&first, "tickets-stopped");
    first.epochs = 1;
    assert_ok_err(cw_train_inproc(&whole, NULL, &a, &err), err);
    assert_ok_err(cw_train_inproc(&first, NULL, &b, &err), err);
    cwi_config_init(&second);
    assert_ok_err(cw_config_from_run(&second, first.out, &err), err);
    assert_int_equal(second.in_flight, 3);
    second.epochs = 2;
    snprintf(second.resume, sizeof second.resume, "%s", first.out);
    assert_ok_err(cw_train_inproc(&second, NULL, &b, &err), err);
    assert_same_report(&a, &b);
    assert_same_model(&whole, &second);
}

static void absurd_numbers_are_refused(void **state)
{
    (void)state;
    cw_config config;
    cw_error err;
    cwi_config_init(&config);
    assert_int_equal(config.in_flight, 1);
    assert_status(cw_config_set(&config, "in-flight", "0", &err), CW_ERR_SPEC);
    assert_status(cw_config_set(&config, "in-flight", "65", &err), CW_ERR_SPEC);
    assert_status(cw_config_set(&config, "in-flight", "two", &err), CW_ERR_SPEC);
}

int main(void)
{
    require_data();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_client_is_unsplit_training_with_micro_batches),
        cmocka_unit_test(several_clients_add_up_in_the_same_order),
        cmocka_unit_test(coded_micro_batches_are_the_same_over_tcp),
        cmocka_unit_test(micro_batches_change_batch_norm_alone),
        cmocka_unit_test(a_run_goes_on_with_its_micro_batches),
        cmocka_unit_test(absurd_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
