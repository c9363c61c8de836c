/* cmd_report.c - `cutwire report`: finished runs side by side, from the files in their folders. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "commands.h"
#include "report_page.h"

typedef struct run_row {
    const char *folder;
    const char *mode, *uplink, *downlink; /* borrowed from `config` */
    int clients, batch;
    bool tested; /* else accuracy and loss are 0 */
    double accuracy, loss, seconds, up, up_raw, down, down_raw;
    json_t *config, *summary;
} run_row;

static json_t *load(const char *folder, const char *file)
{
    char path[4096];
    json_error_t err;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *object = json_load_file(path, 0, &err);
    if (!object)
        cli_fail(CLI_FAILURE, "report: %s: %s: left out: %s is not the folder of a finished run", path, err.text,
                 folder);
    return object;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void free_row(run_row *row)
{
    json_decref(row->config);
    json_decref(row->summary);
}

/* A run that was killed has no summary: it is left out, with a message. */
static bool read_row(const char *folder, run_row *row)
{
    memset(row, 0, sizeof *row);
    row->folder = folder;
    row->config = load(folder, "config.json");
    row->summary = row->config ? load(folder, "summary.json") : NULL;
    if (!row->summary) {
        free_row(row);
        return false;
    }
    const json_t *up = json_object_get(row->summary, "uplink"), *down = json_object_get(row->summary, "downlink");
    row->mode = text_of(row->config, "mode");
    row->uplink = text_of(row->config, "uplink");
    row->downlink = text_of(row->config, "downlink");
    row->clients = (int)number_of(row->config, "clients");
    row->batch = (int)number_of(row->config, "batch");
    row->tested = json_is_number(json_object_get(row->summary, "test_accuracy"));
    row->accuracy = number_of(row->summary, "test_accuracy");
    row->loss = number_of(row->summary, "test_loss");
    row->seconds = number_of(row->summary, "seconds");
    row->up = number_of(up, "socket_bytes");
    row->up_raw = number_of(up, "raw_bytes") + number_of(up, "eval_raw_bytes");
    row->down = number_of(down, "socket_bytes");
    row->down_raw = number_of(down, "raw_bytes");
    return true;
}

static char *ratio_text(double raw, double sent, char *buf, size_t size)
{
    if (sent > 0)
        snprintf(buf, size, "%.2f", raw / sent);
    else
        snprintf(buf, size, "-");
    return buf;
}

typedef struct codec_widths {
    int up, down;
} codec_widths;

static void print_row(const run_row *r, codec_widths w)
{
    char accuracy[24] = "-", loss[24] = "-", up[24] = "-", down[24] = "-", up_ratio[24], down_ratio[24], seconds[24];
    bool split = r->up > 0;
    if (r->tested) {
        snprintf(accuracy, sizeof accuracy, "%.2f%%", 100 * r->accuracy);
        snprintf(loss, sizeof loss, "%.4f", r->loss);
    }
    printf("%-18s %7d %6d  %-*s  %-*s %9s %8s %10s %7s %10s %7s %8s\n", r->mode, r->clients, r->batch, w.up,
           split ? r->uplink : "-", w.down, split ? r->downlink : "-", accuracy, loss,
           split ? cli_bytes(r->up, up, sizeof up) : up, ratio_text(r->up_raw, r->up, up_ratio, sizeof up_ratio),
           split ? cli_bytes(r->down, down, sizeof down) : down,
           ratio_text(r->down_raw, r->down, down_ratio, sizeof down_ratio),
           cli_duration(r->seconds, seconds, sizeof seconds));
}

static int longer(int width, const char *text)
{
    const int length = (int)strlen(text);
    return length > width ? length : width;
}

static void print_table(const run_row *rows, int count)
{
    static const char up[] = "uplink codec", down[] = "downlink codec";
    codec_widths w = {(int)strlen(up), (int)strlen(down)};
    for (int i = 0; i < count; i++)
        if (rows[i].up > 0)
            w = (codec_widths){longer(w.up, rows[i].uplink), longer(w.down, rows[i].downlink)};
    printf("%-18s %7s %6s  %-*s  %-*s %9s %8s %10s %7s %10s %7s %8s\n", "run", "clients", "batch", w.up, up, w.down,
           down, "test acc.", "loss", "uplink", "ratio", "downlink", "ratio", "time");
    for (int i = 0; i < count; i++)
        print_row(&rows[i], w);
    puts("\nBytes are counted at the socket, all messages included; ratio: fp32 size of what crossed the cut to that.");
    for (int i = 0; i < count; i++)
        printf("%s %s\n", i ? "      " : "files:", rows[i].folder);
}

static json_t *row_json(const run_row *r)
{
    return json_pack("{s:o,s:s,s:i,s:i,s:s,s:s,s:o,s:o,s:f,s:f,s:f,s:f,s:f}", "out", cli_json_text(r->folder), "mode",
                     r->mode, "clients", r->clients, "batch", r->batch, "uplink", r->uplink, "downlink", r->downlink,
                     "test_accuracy", r->tested ? json_real(r->accuracy) : json_null(), "test_loss",
                     r->tested ? json_real(r->loss) : json_null(), "uplink_bytes", r->up, "uplink_raw_bytes", r->up_raw,
                     "downlink_bytes", r->down, "downlink_raw_bytes", r->down_raw, "seconds", r->seconds);
}

static int print_rows_json(const run_row *rows, int count)
{
    json_t *runs = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(runs, row_json(&rows[i]));
    return cli_print_json(json_pack("{s:o}", "runs", runs));
}

static int write_page(const char *path, const run_row *rows, int count)
{
    json_t *runs = json_array();
    int code = CLI_GO_ON;
    for (int i = 0; i < count && code == CLI_GO_ON; i++)
        code = report_page_add(runs, rows[i].folder, rows[i].config);
    if (code == CLI_GO_ON)
        code = report_page_write(path, runs);
    json_decref(runs);
    return code;
}

static int show(const char *const *folders, run_row *rows, int count, bool json, const char *html)
{
    int shown = 0, code = CLI_FAILURE;
    for (int i = 0; i < count; i++)
        shown += read_row(folders[i], &rows[shown]);
    if (shown > 0 && html && (code = write_page(html, rows, shown)) != CLI_GO_ON)
        ; /* it has said why */
    else if (shown > 0 && json)
        code = print_rows_json(rows, shown);
    else if (shown > 0) {
        print_table(rows, shown);
        code = CLI_OK;
    }
    for (int i = 0; i < shown; i++)
        free_row(&rows[i]);
    return code;
}

int cmd_report(int argc, char **argv)
{
    bool json = false;
    const char *html = NULL;
    const cli_option options[] = {
        {"html", "FILE", "write a page with curves, bytes and a table, too: one file that needs nothing else",
         CLI_STRING, &html},
        {"json", NULL, "print one JSON object", CLI_FLAG, &json},
    };
    const cli_command command = {
        .name = "report",
        .args = "DIR...",
        .summary = "Shows finished runs side by side: accuracy, loss, bytes at the socket, time. Others are left out.",
        .examples = "  cutwire report runs/*\n"
                    "  cutwire report --html report.html runs/a runs/b\n",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .min_args = 1,
        .max_args = argc,
    };
    const char **folders = calloc((size_t)argc, sizeof *folders);
    run_row *rows = calloc((size_t)argc, sizeof *rows);
    int count = 0, code = CLI_FAILURE;
    if (!folders || !rows)
        cli_fail(code, "report: out of memory");
    else if ((code = cli_parse(&command, argc, argv, folders, &count)) == CLI_GO_ON)
        code = show(folders, rows, count, json, html);
    free(rows);
    free(folders);
    return code;
}
