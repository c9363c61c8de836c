/* test_big_networks.c - the paper's networks: in two halves at the cuts that have names, and in pieces at every cut,
 * they equal the whole bit for bit. Small networks are cut in two everywhere (test_parts.c); here a part begins with up
 * to 39 million drawn weights, which takes most of the time. */
#include "nn_split.h"

static void test_halves_of_the_papers_networks(void **state)
{
    (void)state;
    static const char *const cuts[] = {"shallow", "medium", "deep", NULL};
    static const split_case cases[] = {{"vgg19", "relu", 3, 32, 2, 2}, {"resnet18", "relu", 3, 32, 2, 2}};
    for (size_t i = 0; i < CWI_COUNT(cases); i++)
        check_split_at(&cases[i], cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_halves_of_the_papers_networks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
