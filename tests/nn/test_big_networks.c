/* test_big_networks.c - the paper's networks: halves equal the whole bit for bit at every cut. */
#include "nn_split.h"

static void test_halves_of_the_papers_networks(void **state)
{
    (void)state;
    static const split_case cases[] = {{"vgg19", "relu", 3, 32, 2, 2}, {"resnet18", "relu", 3, 32, 2, 2}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++)
        check_split(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_halves_of_the_papers_networks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
