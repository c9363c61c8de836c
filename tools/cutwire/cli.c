/* cli.c - options, help, errors, and commands that are several. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "cli_config.h"
#include "cli_man.h"

/* ---- errors ---- */

int cli_fail(int code, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fputs("cutwire: ", stderr);
    cli_put_clean(stderr, text);
    fputc('\n', stderr);
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

void cli_each_option(const cli_command *c,
                     void (*each)(void *ctx, const char *name, const char *metavar, const char *help,
                                  const char *preset),
                     void *ctx)
{
    for (size_t i = 0; i < c->option_count; i++)
        each(ctx, c->options[i].name, c->options[i].metavar, c->options[i].help, NULL);
    for (size_t i = 0; c->keys != CLI_KEYS_NONE && i < cw_config_option_count(); i++) {
        const cw_config_option *key = cw_config_option_at(i);
        if (key_is_offered(c, key))
            each(ctx, key->key, key->metavar, key->help, key->value);
    }
}

static void print_option(void *ctx, const char *name, const char *metavar, const char *help, const char *preset)
{
    char left[64];
    (void)ctx;
    snprintf(left, sizeof left, "--%s%s%s", name, metavar ? " " : "", metavar ? metavar : "");
    printf("  %-26s %s", left, help);
    if (metavar && preset && *preset)
        printf(" [%s]", preset);
    putchar('\n');
}

static void print_help(const cli_command *c)
{
    printf("usage: cutwire %s [OPTIONS]%s%s\n\n%s\n\noptions:\n", c->name, *c->args ? " " : "", c->args, c->summary);
    cli_each_option(c, print_option, NULL);
    print_option(NULL, "help", NULL, "this text", NULL);
    printf("\nexamples:\n%s", c->examples);
}

/* ---- parsing ---- */

/* One whole number of C's grammar, without spaces, signs, inf and nan. */
static bool parse_number(const char *text, double *number)
{
    char *end;
    errno = 0;
    *number = strtod(text, &end);
    return (isdigit((unsigned char)*text) || *text == '.') && !*end && errno == 0 && isfinite(*number);
}

/* A variable that is not set must not make --resume "$RUN" begin another run. */
static bool names_a_place(const char *metavar)
{
    static const char *const places[] = {"DIR", "FILE", "URL", "ENDPOINT"};
    bool is_place = false;
    for (size_t i = 0; metavar && i < sizeof places / sizeof places[0]; i++)
        is_place = is_place || strcmp(metavar, places[i]) == 0;
    return is_place;
}

static int set_value(const cli_command *c, const cli_option *o, const char *value)
{
    if (!*value && names_a_place(o->metavar))
        return cli_fail(CLI_USAGE, "%s: --%s: the value is empty: --%s %s", c->name, o->name, o->name, o->metavar);
    if (o->type == CLI_STRING) {
        *(const char **)o->value = value;
        return CLI_GO_ON;
    }
    double number;
    bool good = parse_number(value, &number);
    if (o->type == CLI_INT) {
        if (!good || number != floor(number) || number > 2147483647.0)
            return cli_fail(CLI_USAGE, "%s: --%s: '%s' is not a whole number from 0 to 2147483647: %s", c->name,
                            o->name, value, o->help);
        *(int *)o->value = (int)number;
        return CLI_GO_ON;
    }
    if (!good)
        return cli_fail(CLI_USAGE, "%s: --%s: '%s' is not a number from 0 up: %s", c->name, o->name, value, o->help);
    *(double *)o->value = number;
    return CLI_GO_ON;
}

typedef struct names {
    const char *name[128];
    size_t count;
} names;

static void add_name(void *ctx, const char *name, const char *metavar, const char *help, const char *preset)
{
    names *n = ctx;
    (void)metavar, (void)help, (void)preset;
    if (n->count < sizeof n->name / sizeof n->name[0])
        n->name[n->count++] = name;
}

/* `text` is as the user wrote it, dashes included. */
static int unknown_option(const cli_command *c, const char *text, const char *name)
{
    names known = {.name = {"help"}, .count = 1};
    cli_each_option(c, add_name, &known);
    const char *near = cli_nearest(name, known.name, known.count);
    if (near)
        return cli_fail(CLI_USAGE, "%s: no option %s: did you mean --%s?", c->name, text, near);
    return cli_fail(CLI_USAGE, "%s: no option %s: `cutwire %s --help` lists them", c->name, text, c->name);
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

/* Whether the argument is an option of this command: then it is no value of the one before it. */
static bool is_option(const cli_command *c, const char *text)
{
    target t;
    char name[64];
    if (strncmp(text, "--", 2) != 0)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 2, "="), text + 2);
    return strcmp(name, "help") == 0 || find_target(c, name, &t);
}

static int set_key(const cli_command *c, const cw_config_option *key, const char *value)
{
    if (value && !*value && names_a_place(key->metavar))
        return cli_fail(CLI_USAGE, "%s: --%s: the value is empty: --%s %s", c->name, key->key, key->key, key->metavar);
    cw_error err;
    cw_status status = cw_config_set(c->config, key->key, value, &err);
    return status == CW_OK ? CLI_GO_ON : cli_fail(CLI_USAGE, "%s: --%s", c->name, err.message);
}

static int needs_value(const cli_command *c, const char *name, const char *metavar, const char *next)
{
    if (next)
        return cli_fail(CLI_USAGE, "%s: --%s needs a value: --%s %s (if %s is meant: --%s=%s)", c->name, name, name,
                        metavar, next, name, next);
    return cli_fail(CLI_USAGE, "%s: --%s needs a value: --%s %s", c->name, name, name, metavar);
}

/* argv[*i] is an option; moves *i past its value. */
static int take_option(const cli_command *c, int argc, char **argv, int *i)
{
    char name[64];
    const char *text = argv[*i] + 2, *value = strchr(text, '=');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, "="), text);
    target t;
    if (strcmp(name, "help") == 0)
        return cli_fail(CLI_USAGE, "%s: --help takes no value", c->name);
    if (!find_target(c, name, &t))
        return unknown_option(c, argv[*i], name);
    if (value)
        value++;
    else if (t.metavar) {
        const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
        if (!next || is_option(c, next))
            return needs_value(c, name, t.metavar, next);
        value = argv[++*i];
    }
    if (t.key)
        return set_key(c, t.key, value);
    if (t.option->type == CLI_FLAG) {
        if (value)
            return cli_fail(CLI_USAGE, "%s: --%s takes no value", c->name, name);
        *(bool *)t.option->value = true;
        return CLI_GO_ON;
    }
    return set_value(c, t.option, value);
}

/* ---- --config FILE ---- */

static int set_flag(const cli_command *c, const cli_option *o, const char *value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(value, words[i]) == 0) {
            *(bool *)o->value = i % 2;
            return CLI_GO_ON;
        }
    }
    return cli_fail(CLI_USAGE, "%s: %s: '%s' is neither true nor false", c->name, o->name, value);
}

/* A configuration's key that is a flag. */
static const char *flag_text(const cw_config_option *key, const char *value)
{
    if (key->metavar)
        return value;
    if (!strcmp(value, "true") || !strcmp(value, "yes") || !strcmp(value, "on"))
        return "1";
    return !strcmp(value, "false") || !strcmp(value, "no") || !strcmp(value, "off") ? "0" : value;
}

static int set_from_file(void *ctx, const char *where, const char *name, const char *value)
{
    cli_command here = *(const cli_command *)ctx;
    target t;
    if (strcmp(name, "config") == 0)
        return cli_fail(CLI_USAGE, "%s: a configuration file names no other one", where);
    if (!find_target(&here, name, &t)) {
        names known = {.count = 0};
        cli_each_option(&here, add_name, &known);
        const char *near = cli_nearest(name, known.name, known.count);
        return near ? cli_fail(CLI_USAGE, "%s: no option %s: did you mean %s?", where, name, near)
                    : cli_fail(CLI_USAGE, "%s: no option %s: `cutwire %s --help` lists them", where, name, here.name);
    }
    here.name = where; /* in messages */
    if (t.key)
        return set_key(&here, t.key, flag_text(t.key, value));
    return t.option->type == CLI_FLAG ? set_flag(&here, t.option, value) : set_value(&here, t.option, value);
}

/* What --config names; NULL: nothing, or help is wanted, or what is wrong with it the parser will say. */
static const char *config_file_of(const cli_command *c, int argc, char **argv)
{
    const char *file = NULL;
    target t;
    if (!find_target(c, "config", &t) || !t.option)
        return NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return NULL;
        if (strncmp(argv[i], "--config=", 9) == 0)
            file = argv[i] + 9;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc && !is_option(c, argv[i + 1]))
            file = argv[i + 1];
    }
    return file && *file ? file : NULL;
}

static int take_argument(const cli_command *c, const char *text, const char **args, int *count)
{
    if (*count >= c->max_args)
        return cli_fail(CLI_USAGE, "%s: '%s' is one argument too many: `cutwire %s --help` shows the usage", c->name,
                        text, c->name);
    if (!*text)
        return cli_fail(CLI_USAGE, "%s: an argument is empty: %s is wanted", c->name, c->args);
    args[(*count)++] = text;
    return CLI_GO_ON;
}

int cli_parse(const cli_command *c, int argc, char **argv, const char **args, int *arg_count)
{
    int count = 0;
    bool only_args = false;
    if (cli_man_asked()) {
        cli_man_command(c);
        return CLI_OK;
    }
    const char *file = config_file_of(c, argc, argv);
    int code = file ? cli_config_read(c->name, file, set_from_file, (void *)(uintptr_t)c) : CLI_GO_ON;
    if (code != CLI_GO_ON)
        return code;
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        if (!only_args && (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)) {
            print_help(c);
            return CLI_OK;
        }
        if (!only_args && strcmp(text, "--") == 0)
            only_args = true;
        else if (!only_args && strncmp(text, "--", 2) == 0)
            code = take_option(c, argc, argv, &i);
        else if (!only_args && text[0] == '-' && text[1])
            code = unknown_option(c, text, text + 1);
        else
            code = take_argument(c, text, args, &count);
        if (code != CLI_GO_ON)
            return code;
    }
    if (count < c->min_args)
        return cli_fail(CLI_USAGE, "%s: %s is missing: `cutwire %s --help` shows the usage", c->name, c->args, c->name);
    if (arg_count)
        *arg_count = count;
    return CLI_GO_ON;
}

/* ---- groups ---- */

static void print_overview(const cli_group *g, FILE *out)
{
    fprintf(out, "usage: cutwire %s ", g->name);
    for (size_t i = 0; i < g->count; i++)
        fprintf(out, "%s%s", i ? "|" : "", g->subs[i].name);
    fprintf(out, " [OPTIONS]\n\n%s\n\n", g->summary);
    for (size_t i = 0; i < g->count; i++)
        fprintf(out, "  %-10s %s\n", g->subs[i].name, g->subs[i].summary);
    if (g->more)
        g->more(out);
    fprintf(out, "\nexamples:\n%s\n`cutwire %s NAME --help` lists the options of one.\n", g->examples, g->name);
}

static int unknown_sub(const cli_group *g, const char *name)
{
    const char *known[16];
    char list[256] = "";
    for (size_t i = 0; i < g->count; i++) {
        const size_t used = strlen(list);
        known[i] = g->subs[i].name;
        snprintf(list + used, sizeof list - used, "%s%s", !i ? "" : i + 1 < g->count ? ", " : " or ", known[i]);
    }
    const char *near = cli_nearest(name, known, g->count);
    if (near)
        return cli_fail(CLI_USAGE, "%s: no %s '%s': choose %s (did you mean '%s'?)", g->name, g->kind, name, list,
                        near);
    return cli_fail(CLI_USAGE, "%s: no %s '%s': choose %s", g->name, g->kind, name, list);
}

int cli_group_run(const cli_group *g, int argc, char **argv)
{
    if (cli_man_asked()) {
        cli_man_group(g);
        return CLI_OK;
    }
    if (argc < 2) {
        print_overview(g, stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(g, stdout);
        return CLI_OK;
    }
    for (size_t i = 0; i < g->count; i++)
        if (strcmp(argv[1], g->subs[i].name) == 0)
            return g->subs[i].run(argc - 1, argv + 1);
    return unknown_sub(g, argv[1]);
}

int cli_with_config(int (*run)(cw_config *config, int argc, char **argv), int argc, char **argv)
{
    cw_config *config;
    cw_error err;
    const cw_status status = cw_config_create(&config, &err);
    if (status != CW_OK)
        return cli_fail_error("configuration", status, &err);
    const int code = run(config, argc, argv);
    cw_config_destroy(&config);
    return code;
}
