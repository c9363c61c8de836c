/* cli.c - options, help and errors. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* ---- errors ---- */

int cli_fail(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("cutwire: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

int cli_fail_error(const char *what, cw_status status, const cw_error *err)
{
    const char *why = err && *err->message ? err->message : cw_status_message(status);
    return cli_fail(status == CW_ERR_SPEC ? CLI_USAGE : CLI_FAILURE, "%s: %s", what, why);
}

/* Levenshtein distance of short words. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t m = strlen(a), n = strlen(b), row[LONGEST + 1];
    if (m > LONGEST || n > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t replace = diagonal + (a[i - 1] != b[j - 1]), other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replace < other ? replace : other;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *known, size_t count)
{
    const char *best = NULL;
    size_t least = strlen(word) / 3 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, known[i]);
        if (d < least) {
            least = d;
            best = known[i];
        }
    }
    return best;
}

/* ---- help ---- */

static bool key_is_offered(const cli_command *c, const cw_config_option *key)
{
    return c->keys == CLI_KEYS_ALL || (c->keys == CLI_KEYS_CLIENT && key->client);
}

static void print_option(const char *name, const char *metavar, const char *help, const char *preset)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", name, metavar ? " " : "", metavar ? metavar : "");
    printf("  %-26s %s", left, help);
    if (metavar && preset && *preset)
        printf(" [%s]", preset);
    putchar('\n');
}

static void print_help(const cli_command *c)
{
    printf("usage: cutwire %s [OPTIONS]%s%s\n\n%s\n\noptions:\n", c->name, *c->args ? " " : "", c->args, c->summary);
    for (size_t i = 0; i < c->option_count; i++)
        print_option(c->options[i].name, c->options[i].metavar, c->options[i].help, NULL);
    for (size_t i = 0; c->keys != CLI_KEYS_NONE && i < cw_config_option_count(); i++) {
        const cw_config_option *key = cw_config_option_at(i);
        if (key_is_offered(c, key))
            print_option(key->key, key->metavar, key->help, key->value);
    }
    print_option("help", NULL, "this text", NULL);
    printf("\nexamples:\n%s", c->examples);
}

/* ---- parsing ---- */

static int set_value(const cli_command *c, const cli_option *o, const char *value)
{
    if (o->type == CLI_STRING) {
        *(const char **)o->value = value;
        return CLI_GO_ON;
    }
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    bool whole = number == floor(number) && number <= 2147483647.0;
    if (errno || end == value || *end || !(number >= 0) || (o->type == CLI_INT && !whole))
        return cli_fail(CLI_USAGE, "%s: --%s: '%s' is not a %snumber: %s", c->name, o->name, value,
                        o->type == CLI_INT ? "whole " : "", o->help);
    if (o->type == CLI_INT)
        *(int *)o->value = (int)number;
    else
        *(double *)o->value = number;
    return CLI_GO_ON;
}

static int unknown_option(const cli_command *c, const char *name)
{
    const char *known[128] = {"help"};
    size_t count = 1;
    for (size_t i = 0; i < c->option_count && count < 128; i++)
        known[count++] = c->options[i].name;
    for (size_t i = 0; c->keys != CLI_KEYS_NONE && i < cw_config_option_count() && count < 128; i++)
        if (key_is_offered(c, cw_config_option_at(i)))
            known[count++] = cw_config_option_at(i)->key;
    const char *near = cli_nearest(name, known, count);
    if (near)
        return cli_fail(CLI_USAGE, "%s: no option --%s: did you mean --%s?", c->name, name, near);
    return cli_fail(CLI_USAGE, "%s: no option --%s: `cutwire %s --help` lists them", c->name, name, c->name);
}

/* An option's metavar and what to do with its value. */
typedef struct target {
    const cli_option *option;
    const cw_config_option *key;
    const char *metavar;
} target;

static bool find_target(const cli_command *c, const char *name, target *t)
{
    for (size_t i = 0; i < c->option_count; i++) {
        if (strcmp(c->options[i].name, name) == 0) {
            *t = (target){.option = &c->options[i], .metavar = c->options[i].metavar};
            return true;
        }
    }
    for (size_t i = 0; c->keys != CLI_KEYS_NONE && i < cw_config_option_count(); i++) {
        const cw_config_option *key = cw_config_option_at(i);
        if (key_is_offered(c, key) && strcmp(key->key, name) == 0) {
            *t = (target){.key = key, .metavar = key->metavar};
            return true;
        }
    }
    return false;
}

/* argv[*i] is an option; moves *i past its value. */
static int take_option(const cli_command *c, int argc, char **argv, int *i)
{
    char name[64];
    const char *text = argv[*i] + 2, *value = strchr(text, '=');
    snprintf(name, sizeof name, "%.*s", (int)(value ? value - text : (long)strlen(text)), text);
    target t;
    if (!find_target(c, name, &t))
        return unknown_option(c, name);
    if (value)
        value++;
    else if (t.metavar) {
        if (*i + 1 >= argc)
            return cli_fail(CLI_USAGE, "%s: --%s needs a value: --%s %s", c->name, name, name, t.metavar);
        value = argv[++*i];
    }
    if (t.key) {
        cw_error err;
        cw_status status = cw_config_set(c->config, name, value, &err);
        return status == CW_OK ? CLI_GO_ON : cli_fail(CLI_USAGE, "%s: --%s", c->name, err.message);
    }
    if (t.option->type == CLI_FLAG) {
        if (value)
            return cli_fail(CLI_USAGE, "%s: --%s takes no value", c->name, name);
        *(bool *)t.option->value = true;
        return CLI_GO_ON;
    }
    return set_value(c, t.option, value);
}

int cli_parse(const cli_command *c, int argc, char **argv, const char **args, int *arg_count)
{
    int count = 0;
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        if (!only_args && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            print_help(c);
            return CLI_OK;
        }
        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else if (!only_args && strncmp(argv[i], "--", 2) == 0) {
            int code = take_option(c, argc, argv, &i);
            if (code != CLI_GO_ON)
                return code;
        } else if (count < c->max_args) {
            args[count++] = argv[i];
        } else {
            return cli_fail(CLI_USAGE, "%s: '%s' is one argument too many: `cutwire %s --help` shows the usage",
                            c->name, argv[i], c->name);
        }
    }
    if (count < c->min_args)
        return cli_fail(CLI_USAGE, "%s: %s is missing: `cutwire %s --help` shows the usage", c->name, c->args, c->name);
    if (arg_count)
        *arg_count = count;
    return CLI_GO_ON;
}
