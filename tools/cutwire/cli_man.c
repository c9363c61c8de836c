/* cli_man.c - manual pages in man(7) roff. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli_man.h"

static FILE *page;                /* being written; NULL: no page is asked for */
static const cli_group *in_group; /* whose subcommand describes itself */
static const char *page_summary;  /* of the command, as main.c has it */

bool cli_man_asked(void)
{
    return page != NULL;
}

/* ---- roff ---- */

static void put_char(char c)
{
    static const struct {
        char c;
        const char *roff;
    } special[] = {{'\\', "\\e"}, {'-', "\\-"}, {'\'', "\\(aq"}, {'`', "\\(ga"}, {'^', "\\(ha"}, {'~', "\\(ti"}};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        if (special[i].c == c) {
            fputs(special[i].roff, page);
            return;
        }
    }
    fputc(c, page);
}

static void put(const char *text)
{
    for (; *text; text++)
        put_char(*text);
}

/* Running text, on lines of moderate length; none begins with what roff takes for a request. */
static void put_words(const char *text)
{
    size_t column = 0;
    for (text += strspn(text, " \n"); *text; text += strspn(text, " \n")) {
        const size_t length = strcspn(text, " \n");
        if (column && column + length > 70) {
            fputc('\n', page);
            column = 0;
        } else if (column)
            fputc(' ', page);
        if (!column && *text == '.')
            fputs("\\&", page);
        for (size_t i = 0; i < length; i++)
            put_char(text[i]);
        column += length + 1;
        text += length;
    }
    fputc('\n', page);
}

/* Lines as they are. */
static void put_lines(const char *text)
{
    fputs(".nf\n", page);
    while (*text) {
        const size_t length = strcspn(text, "\n");
        if (*text == '.')
            fputs("\\&", page);
        for (size_t i = 0; i < length; i++)
            put_char(text[i]);
        fputc('\n', page);
        text += length + (text[length] == '\n');
    }
    fputs(".fi\n", page);
}

static void put_option(void *ctx, const char *name, const char *metavar, const char *help, const char *preset)
{
    (void)ctx;
    fputs(".TP\n.B \\-\\-", page);
    put(name);
    if (metavar) {
        fputs(" \\fI", page);
        put(metavar);
        fputs("\\fR", page);
    }
    fputc('\n', page);
    char text[1024];
    snprintf(text, sizeof text, "%s%s%s%s", help, metavar && preset && *preset ? " [" : "",
             metavar && preset && *preset ? preset : "", metavar && preset && *preset ? "]" : "");
    put_words(text);
}

static void put_entry(const char *term, const char *text)
{
    fputs(".TP\n.B ", page);
    put(term);
    fputc('\n', page);
    put_words(text);
}

/* ---- what all pages say ---- */

static const char *const exit_codes[][2] = {
    {"0", "Done; also a run that a signal ended early, with what was reached saved."},
    {"1", "Something failed: a sentence on standard error says what, where and what to do. Also where standard output "
          "could not be written."},
    {"2", "Wrong usage: an unknown option, a value out of range, a malformed specification."},
};

static const char *const environment[][2] = {
    {"CUTWIRE_DATA",
     "Folder that holds data sets, each in one of its own. It is searched first, and `cutwire data fetch` "
     "puts them there."},
    {"HOME", "Without CUTWIRE_DATA data sets are looked for, and put, below $HOME/.cache/cutwire/data."},
    {"CUTWIRE_CPU",
     "Instruction set of the codecs' kernels: scalar, avx2, avx512 or neon; the best there is where it is "
     "not set. The bytes are the same with all."},
    {"OMP_WAIT_POLICY", "The command sets it to passive unless it is set, so that idle threads of the engine sleep."},
};

static const char *const run_files[][2] = {
    {"config.json", "Every key of the configuration, and the mode."},
    {"recipe.txt", "Texts and tables: how they became numbers."},
    {"metrics.jsonl", "One JSON object for each epoch. Epochs count from 1."},
    {"summary.json", "The last epoch's, and what was reached."},
    {"model.safetensors", "Parameters and batch norm's statistics, for --weights."},
    {"checkpoint.safetensors", "The same with the optimizer's state, the configuration and the epoch reached, for "
                               "--resume."},
};

static void put_entries(const char *title, const char *const (*entries)[2], size_t count)
{
    fprintf(page, ".SH %s\n", title);
    for (size_t i = 0; i < count; i++)
        put_entry(entries[i][0], entries[i][1]);
}

static void put_end(bool trains)
{
    if (trains) {
        put_entries("FILES", run_files, sizeof run_files / sizeof run_files[0]);
        fputs(".PP\n", page);
        put_words("These lie in the run's folder, --out, or runs/DATE-TIME-MODEL-COMMAND-PID. With SIGINT, SIGTERM or "
                  "SIGHUP the run ends after its step and leaves them complete; a second SIGINT or SIGTERM kills.");
    }
    put_entries("EXIT STATUS", exit_codes, sizeof exit_codes / sizeof exit_codes[0]);
    put_entries("ENVIRONMENT", environment, sizeof environment / sizeof environment[0]);
}

static void put_head(const char *name, const char *summary)
{
    fputs(".\\\" Made by `cutwire man` from the tables that --help prints.\n.TH CUTWIRE", page);
    for (const char *c = name; *c; c++)
        put_char(*c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c);
    fprintf(page, " 1 %s \"cutwire %s\" \"User Commands\"\n.SH NAME\ncutwire", CUTWIRE_DATE, cw_version());
    put(name);
    fputs(" \\-\n", page);
    put_words(summary);
}

static void put_synopsis(const char *name, const char *args)
{
    fputs(".B cutwire ", page);
    put(name);
    fputs("\n.RI [ OPTIONS ]\n", page);
    if (*args)
        put_words(args);
}

/* ---- a command's page ---- */

static void put_options(const cli_command *c)
{
    cli_each_option(c, put_option, NULL);
    put_option(NULL, "help", NULL, "Prints the usage and ends.", NULL);
}

void cli_man_command(const cli_command *c)
{
    if (in_group) {
        fputs(".SS cutwire ", page);
        put(c->name);
        if (*c->args)
            fputc(' ', page);
        put(c->args);
        fputc('\n', page);
        put_words(c->summary);
        put_options(c);
        fputs(".PP\nExamples:\n.PP\n", page);
        put_lines(c->examples);
        return;
    }
    char name[64];
    snprintf(name, sizeof name, "-%s", c->name);
    put_head(name, page_summary);
    fputs(".SH SYNOPSIS\n", page);
    put_synopsis(c->name, c->args);
    fputs(".SH DESCRIPTION\n", page);
    put_words(c->summary);
    fputs(".SH OPTIONS\n", page);
    if (c->keys == CLI_KEYS_ALL)
        put_words("Those from --data on are the keys of the configuration as well, with their defaults in brackets: "
                  "config.json of a run holds them by these names, and presets set them.");
    put_options(c);
    put_end(c->keys == CLI_KEYS_ALL);
    fputs(".SH EXAMPLES\n", page);
    put_lines(c->examples);
    fputs(".SH SEE ALSO\n.BR cutwire (1)\n", page);
}

static void put_more(const cli_group *g)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    g->more(out);
    fclose(out);
    fputs(".PP\n", page);
    put_lines(text + strspn(text, "\n"));
    free(text);
}

void cli_man_group(const cli_group *g)
{
    char name[64];
    snprintf(name, sizeof name, "-%s", g->name);
    put_head(name, page_summary);
    fputs(".SH SYNOPSIS\n", page);
    for (size_t i = 0; i < g->count; i++) {
        snprintf(name, sizeof name, "%s %s", g->name, g->subs[i].name);
        put_synopsis(name, "");
        fputs(i + 1 < g->count ? ".br\n" : "", page);
    }
    fputs(".SH DESCRIPTION\n", page);
    put_words(g->summary);
    if (g->more)
        put_more(g);
    fputs(".SH SUBCOMMANDS\n", page);
    in_group = g;
    for (size_t i = 0; i < g->count; i++) {
        char word[32];
        snprintf(word, sizeof word, "%s", g->subs[i].name);
        (void)g->subs[i].run(1, (char *[]){word, NULL});
    }
    in_group = NULL;
    put_end(false);
    fputs(".SH EXAMPLES\n", page);
    put_lines(g->examples);
    fputs(".SH SEE ALSO\n.BR cutwire (1)\n", page);
}

/* ---- all pages ---- */

static void put_main(const cli_sub *commands, size_t count)
{
    put_head("", "split learning over thin links");
    fputs(".SH SYNOPSIS\n.B cutwire\n.I COMMAND\n.RI [ OPTIONS ]\n.br\n.B cutwire \\-\\-version\n", page);
    fputs(".SH DESCRIPTION\n", page);
    put_words(
        "A neural network is cut at one layer. Clients run and train the layers before the cut on data that stay with "
        "them; the labels do not, they go to the server, which runs the layers after the cut. What crosses the cut, "
        "activations up and gradients down, is compressed by codecs.");
    fputs(".PP\n", page);
    put_words(
        "With --json the last line of standard output is one JSON object. Progress and messages go to standard error. "
        "Options are not abbreviated; of one given twice the last counts; what follows -- is no option. Clients, "
        "epochs, lines and samples count from 1 in what is printed for people.");
    fputs(".SH COMMANDS\n", page);
    for (size_t i = 0; i < count; i++) {
        fprintf(page, ".TP\n.BR cutwire\\-%s (1)\n", commands[i].name);
        put_words(commands[i].summary);
    }
    put_end(true);
    fputs(".SH EXAMPLES\n", page);
    put_lines("  cutwire data fetch cifar-10\n"
              "  cutwire train --split --clients 4 --data cifar-10 --model resnet20\n"
              "  cutwire report runs/*\n");
    fputs(".SH SEE ALSO\n", page);
    for (size_t i = 0; i < count; i++)
        fprintf(page, ".BR cutwire\\-%s (1)%s\n", commands[i].name, i + 1 < count ? "," : "");
}

/* The page of commands[i], or of the whole where i is count. */
static int write_page(const char *folder, const cli_sub *commands, size_t count, size_t i)
{
    char path[4096], word[32] = "";
    snprintf(path, sizeof path, "%s/cutwire%s%s.1", folder, i < count ? "-" : "", i < count ? commands[i].name : "");
    page = fopen(path, "w");
    if (!page)
        return cli_fail(CLI_FAILURE, "man: cannot write %s: %s", path, strerror(errno));
    if (i < count) {
        snprintf(word, sizeof word, "%s", commands[i].name);
        page_summary = commands[i].summary;
        (void)commands[i].run(1, (char *[]){word, NULL});
    } else
        put_main(commands, count);
    bool written = !ferror(page);
    written = fclose(page) == 0 && written;
    page = NULL;
    return written ? CLI_GO_ON : cli_fail(CLI_FAILURE, "man: cannot write %s: %s", path, strerror(errno));
}

int cli_man(const cli_sub *commands, size_t count, int argc, char **argv)
{
    const cli_command command = {.name = "man",
                                 .args = "DIR",
                                 .summary =
                                     "Writes the manual pages, made from the tables that --help prints, into a folder.",
                                 .examples = "  cutwire man build/man\n",
                                 .min_args = 1,
                                 .max_args = 1};
    const char *folder;
    int code = cli_parse(&command, argc, argv, &folder, NULL);
    for (size_t i = 0; i <= count && code == CLI_GO_ON; i++)
        code = write_page(folder, commands, count, i);
    return code == CLI_GO_ON ? CLI_OK : code;
}
