/* cmd_study.c - `cutwire study`: grids of training runs that are made once and shown as a table, a picture, a page. */
#include <string.h>

#include "commands.h"
#include "research.h"

static const char summary[] =
    "Makes the runs of a study, a grid in a YAML file (research/studies), and shows what they came to.\n"
    "  list   its runs: done, to do, stale, or equal to another to the bit and so not made; and how long is left\n"
    "  run    makes the missing ones; may be stopped, killed, and moved to another machine with its folder of runs\n"
    "  show   the tables; also writes them as Markdown, with a picture and as a page of HTML beside the CSV";

static const char examples[] = "  cutwire study simple list\n"
                               "      what there is to do\n"
                               "  cutwire study figure3 run --hours 8 --jobs 2\n"
                               "      eight hours of it, two runs at a time; the same command goes on another day\n"
                               "  cutwire study figure3 run --only \"cut=shallow uplink=ms\" --seeds 1\n"
                               "  cutwire study figure3 show\n"
                               "  cutwire study my-grid.yaml run\n"
                               "      a study of one's own; its results are my-grid.csv beside it\n";

static bool is_verb(const char *word)
{
    return strcmp(word, "list") == 0 || strcmp(word, "run") == 0 || strcmp(word, "show") == 0;
}

int cmd_study(int argc, char **argv)
{
    research_options o;
    cli_option options[RESEARCH_OPTIONS];
    research_option_table(&o, options);
    const cli_command command = {
        .name = "study",
        .args = "NAME|FILE list|run|show",
        .summary = summary,
        .examples = examples,
        .options = options,
        .option_count = RESEARCH_OPTIONS,
        .min_args = 2,
        .max_args = 2,
    };
    const char *args[2];
    int count;
    int code = cli_parse(&command, argc, argv, args, &count);
    if (code != CLI_GO_ON)
        return code;
    if (!is_verb(args[1]))
        return cli_fail(CLI_USAGE, "study: '%s' is nothing to do with a study: choose list, run or show", args[1]);
    return research_become("study", args[0], args[1], &o);
}
