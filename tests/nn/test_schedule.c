/* test_schedule.c - learning rates against PyTorch's formulas, and what the parser refuses. */
#include "test.h"

#include <math.h>

#include "base/base.h"
#include "cutwire/nn.h"

static cw_schedule parsed(const char *spec, double base)
{
    cw_error err;
    cw_schedule s;
    assert_ok_err(cw_schedule_parse(spec, &s, &err), err);
    s.base_lr = base;
    return s;
}

static void assert_lr(const cw_schedule *s, double epoch, double epochs, double expected)
{
    double got = (double)cw_schedule_lr(s, epoch, epochs);
    if (fabs(got - expected) > 1e-6 * fmax(expected, 1e-3))
        fail_msg("at epoch %g of %g: %.9g, expected %.9g", epoch, epochs, got, expected);
}

static void test_values(void **state)
{
    (void)state;
    cw_schedule s = parsed("constant", 0.1);
    assert_lr(&s, 0, 10, 0.1);
    assert_lr(&s, 9.9, 10, 0.1);
    s = parsed("cosine", 0.1);
    /* torch.optim.lr_scheduler.CosineAnnealingLR(T_max=200) after 0, 50, 100, 150, 200 epochs */
    static const double cosine[] = {0.1, 0.08535533905932738, 0.05, 0.014644660940672627, 0.0};
    for (int i = 0; i < 5; i++)
        assert_lr(&s, 50.0 * i, 200, cosine[i]);
    s = parsed("cosine:final=0.02", 0.1);
    assert_lr(&s, 100, 200, 0.06);
    assert_lr(&s, 200, 200, 0.02);
    s = parsed("multistep:at=60/120/160,gamma=0.2", 0.1);
    static const double at[] = {0, 59.99, 60, 119, 120, 160, 199}, step[] = {.1, .1, .02, .02, .004, .0008, .0008};
    for (size_t i = 0; i < CWI_COUNT(at); i++)
        assert_lr(&s, at[i], 200, step[i]);
    s = parsed("multistep:at=30", 0.1);
    assert_lr(&s, 30, 90, 0.01);
    s = parsed("onecycle:warmup=0.25,final=0.01", 0.4);
    assert_lr(&s, 0, 8, 0);
    assert_lr(&s, 1, 8, 0.2);
    assert_lr(&s, 2, 8, 0.4);
    assert_lr(&s, 5, 8, 0.205);
    assert_lr(&s, 8, 8, 0.01);
    s = parsed("onecycle", 1);
    assert_lr(&s, 3, 10, 1);
    assert_lr(&s, 6.5, 10, 0.5);
    s = parsed("onecycle:warmup=0", 1); /* from the peak straight down */
    assert_lr(&s, 0, 10, 1);
    assert_lr(&s, 3, 10, 0.7);
    assert_lr(&s, 10, 10, 0);
    s = parsed("onecycle:warmup=1", 1);
    assert_lr(&s, 5, 10, 0.5);
    s = (cw_schedule){.kind = CW_SCHED_ONECYCLE, .base_lr = 1}; /* not parsed: the default holds */
    assert_lr(&s, 1.5, 10, 0.5);
    assert_lr(&s, 3, 10, 1);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "cosin",
                                      "cosine:",
                                      "cosine:final",
                                      "cosine:final=x",
                                      "cosine:final=-1",
                                      "cosine:gamma=0.1",
                                      "constant:final=1",
                                      "multistep",
                                      "multistep:at=",
                                      "multistep:at=30/20",
                                      "multistep:at=30/",
                                      "multistep:at=30,gamma=2",
                                      "onecycle:warmup=1.5",
                                      "onecycle:warmup=0.3,",
                                      "onecycle:warmup=nan",
                                      "multistep:at=1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17"};
    for (size_t i = 0; i < CWI_COUNT(bad); i++) {
        cw_error err;
        cw_schedule s;
        if (cw_schedule_parse(bad[i], &s, &err) != CW_ERR_SPEC)
            fail_msg("'%s' was accepted", bad[i]);
        assert_true(strlen(err.message) > 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
