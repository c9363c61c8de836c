/* classes.c - names of classes: compared, mapped, and as text. */
#include <stdlib.h>
#include <string.h>

#include "config/classes.h"
#include "data/recipe.h"

/* ---- lists of names ---- */

void cwi_classes_free(cwi_classes *c)
{
    for (size_t i = 0; i < c->count; i++)
        cwi_free(c->names[i]);
    cwi_free(c->names);
    cwi_free(c->order);
    *c = (cwi_classes){0};
}

typedef struct named_label {
    const char *name;
    uint32_t label;
} named_label;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named_label *)a)->name, ((const named_label *)b)->name);
}

/* The name that occurs twice, or NULL. */
static const char *first_double(const named_label *sorted, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (strcmp(sorted[i - 1].name, sorted[i].name) == 0)
            return sorted[i].name;
    return NULL;
}

static cw_status sort_names(cwi_classes *c, cw_error *err)
{
    named_label *sorted = cwi_alloc(c->count, sizeof *sorted);
    cwi_free(c->order);
    c->order = cwi_alloc(c->count, sizeof *c->order);
    if (!sorted || !c->order) {
        cwi_free(sorted);
        return cwi_fail_memory(err, c->count * sizeof *sorted);
    }
    for (size_t i = 0; i < c->count; i++)
        sorted[i] = (named_label){c->names[i], (uint32_t)i};
    qsort(sorted, c->count, sizeof *sorted, by_name);
    for (size_t i = 0; i < c->count; i++)
        c->order[i] = sorted[i].label;
    const char *twice = first_double(sorted, c->count);
    cw_status status = CW_OK;
    if (twice)
        status = cwi_fail(err, CW_ERR_CORRUPT, "two classes of the name \"%.100s\"", twice);
    cwi_free(sorted);
    return status;
}

/* Room for `more` names. */
static cw_status reserve_names(cwi_classes *c, size_t more, cw_error *err)
{
    const size_t old = c->count * sizeof *c->names, size = (c->count + more) * sizeof *c->names;
    char **names = c->names ? cwi_realloc(c->names, old, size) : cwi_alloc(size, 1);
    if (!names)
        return cwi_fail_memory(err, size);
    c->names = names;
    return CW_OK;
}

/* Where there is room. */
static cw_status append_name(cwi_classes *c, const char *name, cw_error *err)
{
    if (!*name)
        return cwi_fail(err, CW_ERR_CORRUPT, "the class of label %zu has no name", c->count);
    c->names[c->count] = cwi_strdup(name);
    if (!c->names[c->count])
        return cwi_fail_memory(err, strlen(name) + 1);
    c->count++;
    return CW_OK;
}

cw_status cwi_classes_copy(const char *const *names, size_t count, cwi_classes *out, cw_error *err)
{
    *out = (cwi_classes){0};
    cw_status status = reserve_names(out, count, err);
    for (size_t i = 0; i < count && status == CW_OK; i++)
        status = append_name(out, names[i], err);
    if (status == CW_OK)
        status = sort_names(out, err);
    if (status != CW_OK)
        cwi_classes_free(out);
    return status;
}

cw_status cwi_classes_add(cwi_classes *c, const cwi_classes *from, cw_error *err)
{
    CWI_TRY(reserve_names(c, from->count, err));
    const cwi_classes known = *c; /* what is new is looked up in this */
    for (size_t i = 0; i < from->count; i++)
        if (cwi_classes_find(&known, from->names[i]) < 0)
            CWI_TRY(append_name(c, from->names[i], err));
    return sort_names(c, err);
}

int64_t cwi_classes_find(const cwi_classes *c, const char *name)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int side = strcmp(name, c->names[c->order[middle]]);
        if (side == 0)
            return c->order[middle];
        if (side < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

size_t cwi_classes_unknown(const cwi_classes *run, const cwi_classes *own)
{
    size_t unknown = 0;
    for (size_t i = 0; i < own->count; i++)
        unknown += cwi_classes_find(run, own->names[i]) < 0;
    return unknown;
}

bool cwi_classes_equal(const cwi_classes *a, const cwi_classes *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++)
        equal = strcmp(a->names[i], b->names[i]) == 0;
    return equal;
}

cw_status cwi_classes_map(const cwi_classes *run, const cwi_classes *own, int32_t **map, cw_error *err)
{
    bool moved = false;
    *map = cwi_alloc(own->count, sizeof **map);
    if (!*map)
        return cwi_fail_memory(err, own->count * sizeof **map);
    for (size_t i = 0; i < own->count; i++) {
        (*map)[i] = (int32_t)cwi_classes_find(run, own->names[i]);
        moved |= (*map)[i] != (int32_t)i;
    }
    if (!moved) {
        cwi_free(*map);
        *map = NULL;
    }
    return CW_OK;
}

/* ---- as text ---- */

static cw_status add_escaped(cwi_text *t, const char *name, cw_error *err)
{
    while (*name) {
        const size_t n = strcspn(name, "\\\n");
        CWI_TRY(cwi_text_add(t, err, "%.*s", (int)n, name));
        name += n;
        if (*name)
            CWI_TRY(cwi_text_add(t, err, *name++ == '\n' ? "\\n" : "\\\\"));
    }
    return cwi_text_add(t, err, "\n");
}

cw_status cwi_classes_format(const cwi_classes *c, char **text, cw_error *err)
{
    cwi_text t = {0};
    *text = NULL;
    cw_status status = cwi_text_add(&t, err, "%s", "");
    for (size_t i = 0; i < c->count && status == CW_OK; i++)
        status = add_escaped(&t, c->names[i], err);
    if (status != CW_OK) {
        cwi_free(t.data);
        return status;
    }
    *text = t.data;
    return CW_OK;
}

/* A line without its newline into `name`, which has room for it. False: an escape that there is not. */
static bool unescape(const char *line, size_t size, char *name)
{
    for (size_t i = 0; i < size; i++) {
        if (line[i] != '\\') {
            *name++ = line[i];
            continue;
        }
        if (++i == size || (line[i] != '\\' && line[i] != 'n'))
            return false;
        *name++ = line[i] == 'n' ? '\n' : '\\';
    }
    *name = '\0';
    return true;
}

static size_t count_lines(const char *text, size_t size)
{
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

static cw_status parse_lines(const char *text, size_t size, char *name, cwi_classes *out, cw_error *err)
{
    CWI_TRY(reserve_names(out, count_lines(text, size), err));
    for (const char *end = text + size; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        if (!unescape(text, (size_t)(newline - text), name))
            return cwi_fail(err, CW_ERR_CORRUPT, "the name of class %zu holds a \\ that begins neither \\\\ nor \\n",
                            out->count);
        CWI_TRY(append_name(out, name, err));
        text = newline + 1;
    }
    return sort_names(out, err);
}

cw_status cwi_classes_parse(const void *text, size_t size, size_t most, cwi_classes *out, cw_error *err)
{
    *out = (cwi_classes){0};
    if (size == 0)
        return CW_OK;
    if (memchr(text, '\0', size) || ((const char *)text)[size - 1] != '\n')
        return cwi_fail(err, CW_ERR_CORRUPT, "not the lines of a list of classes");
    const size_t lines = count_lines(text, size);
    if (lines > most)
        return cwi_fail(err, CW_ERR_CORRUPT, "%zu names of classes, there are %zu classes", lines, most);
    char *name = cwi_alloc(size, 1);
    cw_status status = name ? parse_lines(text, size, name, out, err) : cwi_fail_memory(err, size);
    cwi_free(name);
    if (status != CW_OK)
        cwi_classes_free(out);
    return status;
}

/* ---- for people ---- */

/* A name, perhaps of another machine: it must not steer the terminal. */
static cw_status add_shown(cwi_text *t, const char *name, cw_error *err)
{
    const size_t size = strlen(name);
    size_t step;
    CWI_TRY(cwi_text_add(t, err, t->used ? ", \"" : "\""));
    for (size_t i = 0; i < size; i += step) {
        const uint8_t *p = (const uint8_t *)name + i;
        const bool control = p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0);
        step = control ? 0 : cwi_utf8_length(p, size - i);
        CWI_TRY(cwi_text_add(t, err, "%.*s", step ? (int)step : 1, step ? name + i : "?"));
        step = step ? step : 1;
    }
    return cwi_text_add(t, err, "\"");
}

/* Those that `but` lacks; all where it is NULL. */
static char *list_names(const cwi_classes *c, const cwi_classes *but)
{
    cwi_text t = {0};
    cw_status status = cwi_text_add(&t, NULL, "%s", "");
    for (size_t i = 0; i < c->count && status == CW_OK; i++)
        if (!but || cwi_classes_find(but, c->names[i]) < 0)
            status = add_shown(&t, c->names[i], NULL);
    if (status == CW_OK)
        return t.data;
    cwi_free(t.data);
    return NULL;
}

char *cwi_classes_list(const cwi_classes *c)
{
    return list_names(c, NULL);
}

cw_status cwi_classes_refuse(const cwi_classes *run, const cwi_classes *own, char **both, cw_error *err)
{
    char *unknown = list_names(own, run), *of_run = list_names(run, NULL), *of_own = list_names(own, NULL);
    const size_t count = cwi_classes_unknown(run, own);
    cwi_text t = {0};
    *both = NULL;
    if (unknown && of_run && of_own &&
        cwi_text_add(&t, NULL, "%s of its data %s this run's: its classes are %s, the run's are %s", unknown,
                     count == 1 ? "is none of" : "are none of", of_own, of_run) == CW_OK)
        *both = t.data;
    else
        cwi_free(t.data);
    if (*both && strlen(*both) < CWI_CLASSES_INLINE)
        cwi_fail(err, CW_ERR_MISMATCH, "%s", *both);
    else if (unknown && strlen(unknown) < CWI_CLASSES_INLINE / 2)
        cwi_fail(err, CW_ERR_MISMATCH, "%s of its data %s this run's %zu classes: the log has both lists", unknown,
                 count == 1 ? "is none of" : "are none of", run->count);
    else
        cwi_fail(err, CW_ERR_MISMATCH, "%zu of its %zu classes are none of this run's %zu: the log has both lists",
                 count, own->count, run->count);
    cwi_free(unknown);
    cwi_free(of_run);
    cwi_free(of_own);
    return CW_ERR_MISMATCH;
}
