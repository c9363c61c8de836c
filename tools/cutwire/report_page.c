/* report_page.c - see report_page.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "live_page.h"
#include "report_page.h"

/* A line that is no JSON object ends the curve: a run that was killed may have half a line. */
static json_t *read_epochs(FILE *in)
{
    json_t *epochs = json_array();
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, in) > 0) {
        json_t *epoch = json_loads(line, 0, NULL);
        if (!json_is_object(epoch)) {
            json_decref(epoch);
            break;
        }
        json_array_append_new(epochs, epoch);
    }
    free(line);
    return epochs;
}

int report_page_add(json_t *runs, const char *folder, const json_t *config)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    FILE *in = fopen(path, "r");
    if (!in)
        return cli_fail(CLI_FAILURE, "report: %s: %s", path, strerror(errno));
    json_t *epochs = read_epochs(in);
    fclose(in);
    json_array_append_new(
        runs, json_pack("{s:o,s:O,s:o}", "name", cli_json_text(folder), "config", config, "epochs", epochs));
    return CLI_GO_ON;
}

/* Within an element of a page no "<" may stand. */
static void put_data(FILE *out, const char *json)
{
    for (; *json; json++) {
        if (*json == '<')
            fputs("\\u003c", out);
        else
            fputc(*json, out);
    }
}

/* The page, with the data in place of the "null" that its element "data" holds. */
static void put_page(FILE *out, const char *json)
{
    static const char mark[] = "id=\"data\">";
    const char *page = (const char *)live_page_html, *end = page + live_page_html_size;
    const char *at = page;
    while (memcmp(at, mark, sizeof mark - 1) != 0)
        at++;
    at += sizeof mark - 1;
    fwrite(page, 1, (size_t)(at - page), out);
    put_data(out, json);
    at += strlen("null");
    fwrite(at, 1, (size_t)(end - at), out);
}

char *report_page_make(const char *json, size_t *size)
{
    char *page = NULL;
    FILE *out = open_memstream(&page, size);
    if (!out)
        return NULL;
    put_page(out, json);
    if (fclose(out) == 0)
        return page;
    free(page);
    return NULL;
}

int report_page_write(const char *path, json_t *runs)
{
    json_t *all = json_pack("{s:s,s:O}", "version", cw_version(), "runs", runs);
    char *json = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    size_t size;
    json_decref(all);
    char *page = json ? report_page_make(json, &size) : NULL;
    free(json);
    if (!page)
        return cli_fail(CLI_FAILURE, "report: --html: out of memory");
    cw_error err;
    const cw_status status = cw_file_write(path, page, size, &err);
    free(page);
    return status == CW_OK ? CLI_GO_ON : cli_fail_error("report: --html", status, &err);
}
