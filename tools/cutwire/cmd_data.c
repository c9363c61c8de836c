/* cmd_data.c - cutwire data list|fetch|verify: which data sets there are, getting them, and checking them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"
#include "data_catalog.h"
#include "data_fetch.h"

enum { PATH_SIZE = 4096, MAX_NAMES = 32, SUM_SIZE = 160 };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const catalog_set *catalog_of_spec(const char *spec)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(spec, "@:"), spec);
    return catalog_find(name);
}

/* ---- list ---- */

/* Where fetch gets a set: the archive's address, or the folder of its files. */
static void print_source(const catalog_set *set)
{
    const char *url = set->downloads[0].url;
    const int length = (int)(set->downloads[0].archive ? strlen(url) : (size_t)(strrchr(url, '/') + 1 - url));
    printf("%14s %s: %.*s\n", "", set->copy ? "third party's copy" : "official", length, url);
}

/* What the catalogue knows of a set is added to what is listed of it. */
static void add_catalogue(json_t *object, const catalog_set *set)
{
    json_t *downloads = json_array(), *editions = json_array();
    for (const catalog_download *d = set->downloads; d->url; d++)
        json_array_append_new(
            downloads, json_pack("{s:s, s:s, s:b}", "url", d->url, "checksum", d->sum, "archive", (int)d->archive));
    for (const catalog_edition *e = set->editions; e->label; e++) {
        json_t *files = json_object();
        for (const catalog_file *f = e->files; f->name; f++)
            json_object_set_new(files, f->name, json_string(f->sum));
        json_array_append_new(editions, json_pack("{s:s, s:o}", "label", e->label, "checksums", files));
    }
    json_object_set_new(object, "official", json_boolean(!set->copy));
    json_object_set_new(object, "downloads", downloads);
    json_object_set_new(object, "editions", editions);
}

static int run_list(int argc, char **argv)
{
    bool json = false;
    const cli_option table[] = {{"json", NULL, "one JSON object", CLI_FLAG, &json}};
    const cli_command command = {
        .name = "data list",
        .args = "",
        .summary = "The known data sets, which of them this machine has, and where they come from; --json adds all "
                   "addresses\nand checksums.",
        .examples = "  cutwire data list\n",
        .options = table,
        .option_count = COUNT(table)};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    json_t *sets = json_array();
    for (size_t i = 0; i < cw_dataset_known_count(); i++) {
        const cw_dataset_known *known = cw_dataset_known_at(i);
        char folder[PATH_SIZE];
        bool here = cw_dataset_find(known->name, CW_SPLIT_TEST, folder, sizeof folder, NULL) == CW_OK;
        const catalog_set *set = catalog_find(known->name);
        if (!json)
            printf("%-14s %s\n%14s %s%s\n", known->name, known->summary, "",
                   here ? "in " : "not here: ", here ? folder : known->install);
        if (!json && set)
            print_source(set);
        json_t *one =
            json_pack("{s:s, s:s, s:o, s:s, s:b}", "name", known->name, "summary", known->summary, "folder",
                      here ? cli_json_text(folder) : json_null(), "install", known->install, "fetchable", set != NULL);
        if (set)
            add_catalogue(one, set);
        json_array_append_new(sets, one);
    }
    json_t *object = json_pack("{s:o}", "sets", sets);
    if (json)
        return cli_print_json(object);
    json_decref(object);
    return CLI_OK;
}

/* ---- verify ---- */

/* How a folder's files compare with one edition's. */
typedef struct comparison {
    size_t files, same, missing;
    const char *first_missing, *first_other;
} comparison;

static comparison compare(const char *folder, const catalog_edition *edition)
{
    comparison c = {0};
    for (const catalog_file *f = edition->files; f->name; f++) {
        char path[PATH_SIZE + 64], sum[SUM_SIZE];
        snprintf(path, sizeof path, "%s/%s", folder, f->name);
        c.files++;
        if (!data_sum(path, f->sum, sum)) {
            c.missing++;
            c.first_missing = c.first_missing ? c.first_missing : f->name;
        } else if (strcmp(sum, f->sum) == 0) {
            c.same++;
        } else {
            c.first_other = c.first_other ? c.first_other : f->name;
        }
    }
    return c;
}

/* The edition that the folder's files are nearest to, with how they compare; NULL when the set has none. */
static const catalog_edition *nearest_edition(const catalog_set *set, const char *folder, comparison *best)
{
    const catalog_edition *nearest = NULL;
    for (const catalog_edition *e = set->editions; e->label && !(nearest && best->same == best->files); e++) {
        comparison c = compare(folder, e);
        if (!nearest || c.same > best->same || (c.same == best->same && c.missing < best->missing)) {
            nearest = e;
            *best = c;
        }
    }
    return nearest;
}

/* True when the folder holds an edition whole. */
static bool holds_edition(const catalog_set *set, const char *folder)
{
    comparison best;
    return nearest_edition(set, folder, &best) && best.same == best.files;
}

/* *label: the edition that the folder holds whole, NULL when the set has none to compare with. */
static int check_sums(const char *spec, const char *folder, const char **label)
{
    const catalog_set *set = catalog_of_spec(spec);
    comparison best;
    const catalog_edition *nearest = set ? nearest_edition(set, folder, &best) : NULL;
    *label = NULL;
    if (!nearest)
        return CLI_OK;
    if (best.same == best.files) {
        *label = nearest->label;
        return CLI_OK;
    }
    if (best.first_other)
        return cli_fail(CLI_FAILURE,
                        "data verify: %s: %s/%s has no known checksum: it is damaged or changed; remove it and run "
                        "`cutwire data fetch %s`",
                        spec, folder, best.first_other, set->name);
    return cli_fail(CLI_FAILURE, "data verify: %s: %s/%s is missing (%s edition): run `cutwire data fetch %s`", spec,
                    folder, best.first_missing, nearest->label, set->name);
}

/* What was read of a split. */
typedef struct split_read {
    size_t count, skipped;
    char note[512]; /* what the user should know of it; or "" */
} split_read;

/* Opens a split and makes every sample of it, which decodes every file. */
static int read_split(const char *spec, cw_split split, split_read *read, cli_progress *progress)
{
    cw_dataset *ds;
    cw_loader *loader = NULL;
    cw_error err;
    cw_batch batch;
    cw_status status = cw_dataset_open(spec, split, &ds, &err);
    if (status != CW_OK)
        return cli_fail_error("data verify", status, &err);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    read->count = info->count;
    read->skipped = info->skipped;
    snprintf(read->note, sizeof read->note, "%s", info->note ? info->note : "");
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    cw_loader_options options = {.batch = 32, .threads = processors > 1 ? (int)(processors < 16 ? processors : 16) : 0};
    status = cw_loader_create(ds, NULL, 0, &options, &loader, &err);
    size_t done = 0;
    while (status == CW_OK && !*cli_stop() && (status = cw_loader_next(loader, &batch, &err)) == CW_OK) {
        done += batch.n;
        cli_progress_show(progress, split == CW_SPLIT_TRAIN ? "train" : "test", done, read->count, "samples", "");
    }
    cli_progress_clear(progress);
    cw_loader_destroy(&loader);
    cw_dataset_close(&ds);
    if (*cli_stop())
        return cli_fail(CLI_FAILURE, "data verify: stopped");
    return status == CW_END ? CLI_OK : cli_fail_error("data verify", status, &err);
}

static void add_notes(json_t *set, const split_read *train, const split_read *test)
{
    json_t *notes = json_array();
    if (*train->note)
        json_array_append_new(notes, json_string(train->note));
    if (*test->note)
        json_array_append_new(notes, json_string(test->note));
    json_object_set_new(set, "train_skipped", json_integer((json_int_t)train->skipped));
    json_object_set_new(set, "test_skipped", json_integer((json_int_t)test->skipped));
    json_object_set_new(set, "notes", notes);
}

/* Checksums, and that everything reads. The finding is appended to `sets` and, unless json, printed. */
static int verify_set(const char *spec, bool json, json_t *sets, cli_progress *progress)
{
    char folder[PATH_SIZE];
    cw_error err;
    split_read train = {0}, test = {0};
    const char *label = NULL;
    cw_status status = cw_dataset_find(spec, CW_SPLIT_TRAIN, folder, sizeof folder, &err);
    if (status != CW_OK)
        return cli_fail_error("data verify", status, &err);
    int code = check_sums(spec, folder, &label);
    if (code == CLI_OK)
        code = read_split(spec, CW_SPLIT_TRAIN, &train, progress);
    if (code == CLI_OK)
        code = read_split(spec, CW_SPLIT_TEST, &test, progress);
    json_array_append_new(sets, json_pack("{s:o, s:o, s:b, s:o, s:I, s:I}", "name", cli_json_text(spec), "folder",
                                          cli_json_text(folder), "ok", code == CLI_OK, "edition",
                                          label ? json_string(label) : json_null(), "train_samples",
                                          (json_int_t)train.count, "test_samples", (json_int_t)test.count));
    add_notes(json_array_get(sets, json_array_size(sets) - 1), &train, &test);
    if (code == CLI_OK && !json) {
        printf("%s: %zu + %zu samples read in %s (%s)\n", spec, train.count, test.count, folder,
               label ? label : "no checksums known for it");
        if (*train.note)
            printf("  %s\n", train.note);
        if (*test.note)
            printf("  %s\n", test.note);
    }
    return code;
}

/* Without names: every set that this machine has. */
static int verify_all(bool json, json_t *sets, cli_progress *progress)
{
    int code = CLI_OK;
    for (size_t i = 0; i < cw_dataset_known_count() && !*cli_stop(); i++) {
        const char *name = cw_dataset_known_at(i)->name;
        char folder[PATH_SIZE];
        if (cw_dataset_find(name, CW_SPLIT_TRAIN, folder, sizeof folder, NULL) == CW_OK &&
            verify_set(name, json, sets, progress) != CLI_OK)
            code = CLI_FAILURE;
    }
    return code;
}

static int run_verify(int argc, char **argv)
{
    bool json = false, quiet = false;
    const char *names[MAX_NAMES];
    int count = 0;
    const cli_option table[] = {{"json", NULL, "one JSON object", CLI_FLAG, &json},
                                {"quiet", NULL, "no progress", CLI_FLAG, &quiet}};
    const cli_command command = {.name = "data verify",
                                 .args = "[NAME[:DIR] ...]",
                                 .summary =
                                     "Compares files with the known checksums and reads every sample. Without names: "
                                     "all sets that this\nmachine has.",
                                 .examples = "  cutwire data verify\n  cutwire data verify cifar-10\n"
                                             "  cutwire data verify imagefolder:photos --json\n",
                                 .options = table,
                                 .option_count = COUNT(table),
                                 .max_args = MAX_NAMES};
    int code = cli_parse(&command, argc, argv, names, &count);
    if (code != CLI_GO_ON)
        return code;
    cli_progress progress;
    cli_catch_signals();
    cli_progress_start(&progress, quiet || json);
    json_t *sets = json_array();
    code = count == 0 ? verify_all(json, sets, &progress) : CLI_OK;
    for (int i = 0; i < count && !*cli_stop(); i++) {
        int one = verify_set(names[i], json, sets, &progress);
        code = one != CLI_OK ? one : code;
    }
    json_t *object = json_pack("{s:o, s:b}", "sets", sets, "ok", code == CLI_OK);
    if (!json)
        json_decref(object);
    else
        cli_print_json(object);
    return code;
}

/* ---- fetch ---- */

typedef struct fetch_options {
    const char *to, *url, *sum;
    bool force, json, quiet;
} fetch_options;

/* What a downloaded file may be: the official one, one of a known edition, or what --sum says. */
typedef struct expected {
    const catalog_set *set;
    const catalog_download *download;
    const char *name;
    const char *sum; /* of --sum, or NULL */
} expected;

static bool has_sum(const char *path, const char *wanted)
{
    char sum[SUM_SIZE];
    return wanted && data_sum(path, wanted, sum) && strcmp(sum, wanted) == 0;
}

static bool is_expected(void *ctx, const char *path)
{
    const expected *e = ctx;
    if (e->sum)
        return has_sum(path, e->sum);
    if (has_sum(path, e->download->sum))
        return true;
    for (const catalog_edition *edition = e->set->editions; edition->label; edition++)
        for (const catalog_file *f = edition->files; f->name; f++)
            if (strcmp(f->name, e->name) == 0 && has_sum(path, f->sum))
                return true;
    return false;
}

/* --to, else $CUTWIRE_DATA, else ~/.cache/cutwire/data. */
static int find_root(const char *to, char *root, size_t size)
{
    const char *data = getenv("CUTWIRE_DATA"), *home = getenv("HOME");
    int n = -1;
    if (to && *to)
        n = snprintf(root, size, "%s", to);
    else if (data && *data)
        n = snprintf(root, size, "%s", data);
    else if (home && *home)
        n = snprintf(root, size, "%s/.cache/cutwire/data", home);
    if (n < 0 || (size_t)n >= size)
        return cli_fail(CLI_FAILURE, "data fetch: no folder to put data into: name one by --to");
    return CLI_OK;
}

/* mkdir -p */
static int make_folders(const char *folder)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", folder);
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return cli_fail(CLI_FAILURE, "data fetch: %s: %s: name another folder by --to", path, strerror(errno));
        *p = kept;
        if (!kept)
            return CLI_OK;
    }
}

/* One file, or an archive and what is in it. */
static int fetch_one(const catalog_set *set, const catalog_download *download, const char *root, const fetch_options *o,
                     cli_progress *progress)
{
    const char *name = strrchr(download->url, '/') + 1;
    char url[PATH_SIZE], path[PATH_SIZE];
    int n = o->url ? snprintf(url, sizeof url, "%s%s%s", o->url, o->url[strlen(o->url) - 1] == '/' ? "" : "/", name)
                   : snprintf(url, sizeof url, "%s", download->url);
    int m = download->archive ? snprintf(path, sizeof path, "%s/%s", root, name)
                              : snprintf(path, sizeof path, "%s/%s/%s", root, set->folder, name);
    if (n >= (int)sizeof url || m >= (int)sizeof path)
        return cli_fail(CLI_FAILURE, "data fetch: the address or the folder's name is too long");
    expected e = {set, download, name, o->sum};
    int code = data_download(url, path, o->force, is_expected, &e, progress);
    if (code != CLI_OK || !download->archive)
        return code;
    code = data_unpack(path, root);
    if (code == CLI_OK)
        unlink(path);
    return code;
}

static int fetch_set(const catalog_set *set, const fetch_options *o)
{
    char root[PATH_SIZE - 128], folder[PATH_SIZE], spec[PATH_SIZE + 64];
    int code = find_root(o->to, root, sizeof root);
    if (code != CLI_OK)
        return code;
    snprintf(folder, sizeof folder, "%s/%s", root, set->folder);
    snprintf(spec, sizeof spec, "%s:%s", set->name, folder);
    cli_progress progress;
    cli_catch_signals();
    cli_progress_start(&progress, o->quiet || o->json);
    const bool fetched = o->force || !holds_edition(set, folder);
    if (fetched && (code = make_folders(folder)) != CLI_OK)
        return code;
    if (!fetched && !o->json)
        printf("%s: %s has all files, with known checksums: nothing is fetched (--force fetches them again)\n",
               set->name, folder);
    for (const catalog_download *d = set->downloads; fetched && d->url && code == CLI_OK; d++)
        code = fetch_one(set, d, root, o, &progress);
    if (code != CLI_OK)
        return code;
    json_t *sets = json_array();
    code = verify_set(spec, o->json, sets, &progress);
    if (o->json && code == CLI_OK) {
        json_t *object = json_incref(json_array_get(sets, 0));
        json_object_set_new(object, "fetched", json_boolean(fetched));
        cli_print_json(object);
    }
    json_decref(sets);
    return code;
}

static int unknown_set(const char *name)
{
    char known[1024] = "";
    const char *names[32];
    size_t count = 0;
    for (const catalog_set *s; count < COUNT(names) && (s = catalog_at(count)); count++) {
        const size_t used = strlen(known);
        names[count] = s->name;
        snprintf(known + used, sizeof known - used, "%s%s", count ? ", " : "", s->name);
    }
    const char *near = cli_nearest(name, names, count);
    if (near)
        return cli_fail(CLI_USAGE, "data fetch: no data set '%s': did you mean '%s'?", name, near);
    return cli_fail(CLI_USAGE, "data fetch: no data set '%s': choose one of %s", name, known);
}

static int run_fetch(int argc, char **argv)
{
    fetch_options o = {0};
    const char *name = NULL;
    const cli_option table[] = {
        {"to", "DIR", "put it below DIR (default: $CUTWIRE_DATA, else ~/.cache/cutwire/data)", CLI_STRING, &o.to},
        {"url", "URL", "get the files from this folder of a mirror, by their official names", CLI_STRING, &o.url},
        {"sum", "SUM", "accept only an archive with this checksum, sha256:HEX or md5:HEX", CLI_STRING, &o.sum},
        {"force", NULL, "fetch files that are there and right, too", CLI_FLAG, &o.force},
        {"json", NULL, "one JSON object", CLI_FLAG, &o.json},
        {"quiet", NULL, "no progress", CLI_FLAG, &o.quiet}};
    const cli_command command = {
        .name = "data fetch",
        .args = "NAME",
        .summary = "Downloads a data set from its address (`cutwire data list`), checks it and unpacks it. An "
                   "interrupted download goes on\nwhere it stopped when the command is run again; a set whose files "
                   "are all there and right is left as it is;\nfiles of the set that are damaged or changed are "
                   "replaced, others in its folder are not touched.",
        .examples = "  cutwire data fetch cifar-10\n"
                    "  cutwire data fetch cifar-10 --to /data --url https://mirror.example/sets\n",
        .options = table,
        .option_count = COUNT(table),
        .min_args = 1,
        .max_args = 1};
    int code = cli_parse(&command, argc, argv, &name, NULL);
    if (code != CLI_GO_ON)
        return code;
    const catalog_set *set = catalog_find(name);
    if (!set)
        return unknown_set(name);
    if (o.sum && !set->downloads[0].archive)
        return cli_fail(CLI_USAGE, "data fetch: --sum is for sets that come as one archive, and %s does not", name);
    char sum[SUM_SIZE];
    if (o.sum && !data_sum_parse(o.sum, sum))
        return cli_fail(CLI_USAGE, "data fetch: --sum '%s': give sha256: and 64 hexadecimal digits, or md5: and 32",
                        o.sum);
    o.sum = o.sum ? sum : NULL;
    return fetch_set(set, &o);
}

/* ---- the command ---- */

int cmd_data(int argc, char **argv)
{
    static const cli_sub table[] = {
        {"list", run_list, "the known data sets, and which of them this machine has"},
        {"fetch", run_fetch, "download one, check it, unpack it"},
        {"verify", run_verify, "compare files with known checksums and read every sample"},
    };
    static const cli_group group = {
        .name = "data",
        .kind = "subcommand",
        .summary = "Data sets: which there are, getting them, checking them.",
        .subs = table,
        .count = COUNT(table),
        .examples = "  cutwire data list\n"
                    "  cutwire data fetch cifar-10\n"
                    "  cutwire data verify imagefolder:photos\n",
    };
    return cli_group_run(&group, argc, argv);
}
