/* cli_config.c - see cli_config.h. A file is one mapping of names to plain values: what YAML has beyond that (lists,
 * mappings within, anchors, several documents) is refused with its line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "cli_config.h"

typedef struct entry {
    char *name, *value;
    size_t line; /* from 1 */
} entry;

/* Options point into it. */
static struct file {
    char *path;
    entry *entries;
    size_t count;
} kept;

typedef struct reader {
    const char *command, *path;
    yaml_parser_t parser;
    yaml_event_t event;
} reader;

static size_t line_of(const reader *r)
{
    return r->event.start_mark.line + 1;
}

static int refuse(const reader *r, size_t line, const char *why)
{
    return cli_fail(CLI_USAGE,
                    "%s: %s:%zu: %s: one `name: value` a line is wanted, with the names of `cutwire %s --help`",
                    r->command, r->path, line, why, r->command);
}

/* The next event, of a type that may stand here. */
static int next(reader *r, yaml_event_type_t wanted, yaml_event_type_t other, const char *what)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        const char *problem = r->parser.problem ? r->parser.problem : "not YAML";
        return refuse(r, r->parser.problem_mark.line + 1, problem);
    }
    if (r->event.type != wanted && r->event.type != other)
        return refuse(r, line_of(r), what);
    if (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.anchor)
        return refuse(r, line_of(r), "an anchor");
    return CLI_GO_ON;
}

static char *scalar_of(const reader *r)
{
    const char *text = (const char *)r->event.data.scalar.value;
    return strlen(text) == r->event.data.scalar.length ? strdup(text) : NULL;
}

static int keep_entry(reader *r, entry e)
{
    for (size_t i = 0; i < kept.count; i++)
        if (strcmp(kept.entries[i].name, e.name) == 0)
            return cli_fail(CLI_USAGE, "%s: %s:%zu: %s is there already, in line %zu: leave one of them out",
                            r->command, r->path, e.line, e.name, kept.entries[i].line);
    entry *more = realloc(kept.entries, (kept.count + 1) * sizeof *more);
    if (!more)
        return cli_fail(CLI_FAILURE, "%s: %s: out of memory", r->command, r->path);
    kept.entries = more;
    kept.entries[kept.count++] = e;
    return CLI_GO_ON;
}

/* The event is a name. */
static int read_entry(reader *r)
{
    entry e = {.name = scalar_of(r), .line = line_of(r)};
    int code = next(r, YAML_SCALAR_EVENT, YAML_SCALAR_EVENT, "a value that is a list, a mapping or an alias");
    e.value = code == CLI_GO_ON ? scalar_of(r) : NULL;
    if (code == CLI_GO_ON && (!e.name || !e.value))
        code = refuse(r, e.line, "a zero byte");
    const bool nothing = code == CLI_GO_ON && !*e.value && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (nothing)
        code = refuse(r, e.line, "a name without a value (an empty text is \"\")");
    if (code == CLI_GO_ON)
        code = keep_entry(r, e);
    if (code != CLI_GO_ON) {
        free(e.name);
        free(e.value);
    }
    return code;
}

static int read_document(reader *r)
{
    int code = next(r, YAML_STREAM_START_EVENT, YAML_NO_EVENT, "no YAML");
    if (code == CLI_GO_ON)
        code = next(r, YAML_DOCUMENT_START_EVENT, YAML_STREAM_END_EVENT, "no document");
    if (code != CLI_GO_ON || r->event.type == YAML_STREAM_END_EVENT)
        return code;
    code = next(r, YAML_MAPPING_START_EVENT, YAML_NO_EVENT, "something else than names and values");
    while (code == CLI_GO_ON) {
        code = next(r, YAML_SCALAR_EVENT, YAML_MAPPING_END_EVENT, "a name that is a list, a mapping or an alias");
        if (code != CLI_GO_ON || r->event.type == YAML_MAPPING_END_EVENT)
            break;
        code = read_entry(r);
    }
    if (code == CLI_GO_ON)
        code = next(r, YAML_DOCUMENT_END_EVENT, YAML_NO_EVENT, "no end");
    return code == CLI_GO_ON ? next(r, YAML_STREAM_END_EVENT, YAML_NO_EVENT, "a second document") : code;
}

/* NULL with errno, also of a folder, which could be opened but not read. */
static FILE *open_file(const char *path)
{
    struct stat s;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        errno = EISDIR;
        return NULL;
    }
    return fopen(path, "rb");
}

static int read_file(const char *command, const char *path)
{
    reader r = {.command = command, .path = path};
    FILE *in = open_file(path);
    if (!in)
        return cli_fail(CLI_FAILURE, "%s: --config: %s: %s", command, path, strerror(errno));
    int code = CLI_FAILURE;
    if (yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input_file(&r.parser, in);
        code = read_document(&r);
        yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    } else {
        cli_fail(code, "%s: --config: out of memory", command);
    }
    if (code == CLI_GO_ON && ferror(in))
        code = cli_fail(CLI_FAILURE, "%s: --config: %s: cannot be read", command, path);
    fclose(in);
    return code;
}

int cli_config_read(const char *command, const char *path,
                    int (*set)(void *ctx, const char *where, const char *name, const char *value), void *ctx)
{
    int code = CLI_GO_ON;
    if (!kept.path || strcmp(kept.path, path) != 0) {
        kept.count = 0; /* what options point to stays: a command reads one file */
        kept.path = strdup(path);
        code = read_file(command, path);
    }
    for (size_t i = 0; code == CLI_GO_ON && i < kept.count; i++) {
        char where[4200];
        snprintf(where, sizeof where, "%s: %s:%zu", command, path, kept.entries[i].line);
        code = set(ctx, where, kept.entries[i].name, kept.entries[i].value);
    }
    return code;
}
