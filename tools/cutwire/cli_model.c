/* cli_model.c - opens a network as a command's options describe it, and says what it assumed. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_model.h"

/* "3x32x32"; false unless it is one to three numbers. */
static bool parse_sample(const char *text, cw_shape *out)
{
    *out = (cw_shape){0};
    for (const char *at = text; out->ndim < 3 && isdigit((unsigned char)*at); at++) {
        char *end;
        errno = 0;
        out->dim[out->ndim++] = strtoll(at, &end, 10);
        if (errno || (*end != 'x' && *end != '\0'))
            return false;
        if (*end == '\0')
            return true;
        at = end;
    }
    return false;
}

static bool same_kind(const char *a, const char *b)
{
    size_t n = strcspn(a, ":");
    return n == strcspn(b, ":") && memcmp(a, b, n) == 0;
}

/* The model's own entry; of an unknown one any, as it will be refused. */
static const cw_model_known *entry_of(const char *name)
{
    for (size_t i = 0; i < cw_model_known_count(); i++)
        if (strcmp(cw_model_known_at(i)->name, name) == 0)
            return cw_model_known_at(i);
    return cw_model_known_at(0);
}

/* Of data of this kind: the model's own entry, else that of the first model that is meant for such data. */
static const cw_model_known *entry_for(const cw_model_known *own, const char *input)
{
    for (size_t i = 0; i < cw_model_known_count() && !same_kind(own->input, input); i++)
        own = cw_model_known_at(i);
    return own;
}

/* A table's sample has as many numbers as the table has columns. */
static const char *assume_sample(cli_model *m, const cw_model_known *usual)
{
    if (strncmp(m->input, "table:", 6) != 0)
        return entry_for(usual, m->input)->sample;
    char *at;
    long columns = strtol(m->input + 6, &at, 10);
    for (; *at; at++)
        columns += *at == '/';
    snprintf(m->text[0], sizeof m->text[0], "%ld", columns);
    return m->text[0];
}

/* What a sample of this shape is: CxHxW an image, a row of any other length than usual a row of numbers. */
static const char *assume_input(cli_model *m, const cw_model_known *usual)
{
    if (strchr(m->sample, 'x'))
        return "image";
    if (!same_kind(usual->input, "table") || strcmp(m->sample, usual->sample) == 0)
        return usual->input;
    snprintf(m->text[1], sizeof m->text[1], "table:%.20s", m->sample);
    return m->text[1];
}

static void note(cli_model *m, const char *option, const char *value)
{
    size_t used = strlen(m->assumed);
    snprintf(m->assumed + used, sizeof m->assumed - used, "%s--%s %s", used ? " " : "", option, value);
}

static void assume(cli_model *m)
{
    const cw_model_known *usual = entry_of(m->name);
    bool sample = m->sample != NULL, input = m->input != NULL;
    if (!sample)
        m->sample = input ? assume_sample(m, usual) : usual->sample;
    if (!input)
        m->input = sample ? assume_input(m, usual) : usual->input;
    if (!sample)
        note(m, "sample", m->sample);
    if (!input)
        note(m, "input", m->input);
    if (m->classes < 0) {
        char number[16];
        m->classes = entry_for(usual, m->input)->classes;
        snprintf(number, sizeof number, "%d", m->classes);
        note(m, "classes", number);
    }
    m->activation = m->activation ? m->activation : "relu";
}

int cli_model_open(const char *command, cli_model *m, cw_model **out)
{
    assume(m);
    if (!parse_sample(m->sample, &m->shape))
        return cli_fail(CLI_USAGE, "%s: --sample '%s': give a shape, e.g. 3x32x32, or 64 for 64 words", command,
                        m->sample);
    cw_model_options o = {.sample = m->shape, .classes = m->classes, .activation = m->activation, .input = m->input};
    cw_error err;
    cw_status status = cw_model_open(m->name, &o, out, &err);
    return status == CW_OK ? CLI_GO_ON : cli_fail_error(command, status, &err);
}
