/* repro_figure2_show.c - Figure 2's measurements as CSV, pictures, tables and JSON. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro_figure2.h"

static const char *mode_name(cw_mode mode)
{
    return mode == CW_TRAIN ? "train" : "eval";
}

/* ---- CSV ---- */

static void put_number(FILE *f, double x)
{
    if (isnan(x))
        fputc(',', f);
    else
        fprintf(f, "%.6g,", x);
}

static void put_row(FILE *f, const figure2_map *map, size_t size, size_t codec)
{
    const figure2_row *row = &map->rows[size][codec];
    fprintf(f, "%d,%s,%s,%.2f,%zu,%zu,", map->cut.number, mode_name(map->mode), figure2_names[codec],
            figure2_size(size), map->elements, row->coded.payload_bytes);
    put_number(f, row->bits);
    put_number(f, 1 - row->bits / 32);
    put_number(f, row->coded.l2);
    put_number(f, row->coded.relative);
    put_number(f, row->bound);
    put_number(f, row->alpha);
    fprintf(f, "\"%s\"\n", row->spec);
}

cw_status figure2_csv(const figure2_map *maps, size_t count, const char *folder, cw_error *err)
{
    char path[600], *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return CW_ERR_NO_MEMORY;
    fputs("cut,mode,codec,size,elements,payload_bytes,bits_per_element,compression_rate,l2_error,relative_error,"
          "relative_bound,alpha,spec\n",
          f);
    for (size_t m = 0; m < count; m++)
        for (size_t i = 0; i < F2_SIZES; i++)
            for (size_t c = 0; c < F2_CODECS; c++)
                if (maps[m].rows[i][c].measured)
                    put_row(f, &maps[m], i, c);
    snprintf(path, sizeof path, "%s/figure2.csv", folder);
    cw_status status = fclose(f) == 0 ? cw_file_write(path, text, size, err) : CW_ERR_NO_MEMORY;
    free(text);
    return status;
}

/* ---- pictures ---- */

static const char plot_head[] =
    "set datafile separator ','\n"
    "set datafile missing NaN\n"
    "set datafile columnheaders\n"
    "rate(number, codec) = column('cut') == number && strcol('mode') eq mode && strcol('codec') eq codec \\\n"
    "    ? column('compression_rate') : NaN\n"
    "set style line 1 lc rgb '#0b3c8c' lw 2.5 pt 7 ps 0.8\n"
    "set style line 2 lc rgb '#5aa0e6' lw 2 dt 2 pt 6 ps 0.8\n"
    "set style line 3 lc rgb '#d55e00' lw 2 pt 5 ps 0.8\n"
    "set style line 4 lc rgb '#1b8a5a' lw 2 pt 9 ps 0.9\n"
    "set style line 5 lc rgb '#a0469b' lw 2 pt 13 ps 0.9\n"
    "set logscale y\n"
    "set format y '%g'\n"
    "set grid ytics mytics xtics lc rgb '#e4e4e4' lt 1, lc rgb '#f2f2f2' lt 1\n"
    "set xrange [0.775:0.945]\n"
    "set xtics 0.80, 0.04 nomirror\n"
    "set link x2 via 32 * (1 - x) inverse 1 - x / 32\n"
    "set x2tics 2, 1 nomirror\n"
    "set xlabel 'compression rate, 1 - bytes sent / bytes of fp32'\n"
    "set x2label 'bits per element'\n";

static const char plot_key[] = "set key bottom right reverse Left samplen 2 spacing 1.1 opaque box lc rgb '#cccccc'\n";

static const char plot_panel[] =
    "plot 'figure2.csv' using (rate(%1$d, 'ms')):'relative_error' with linespoints ls 1 title 'MS, best mask width', "
    "\\\n"
    "     '' using (rate(%1$d, 'ms-paper')):'relative_error' with linespoints ls 2 title 'MS, r = 0.99', \\\n"
    "     '' using (rate(%1$d, 'qu')):'relative_error' with linespoints ls 3 title 'QU', \\\n"
    "     '' using (rate(%1$d, 'sp')):'relative_error' with linespoints ls 4 title 'SP', \\\n"
    "     '' using (rate(%1$d, 'rt')):'relative_error' with linespoints ls 5 title 'RT'\n";

static size_t maps_of(const figure2_map *maps, size_t count, cw_mode mode)
{
    size_t found = 0;
    for (size_t m = 0; m < count; m++)
        found += maps[m].mode == mode;
    return found;
}

static void write_panels(FILE *f, const figure2_map *maps, size_t count, cw_mode mode)
{
    for (size_t m = 0; m < count; m++) {
        char shape[100];
        if (maps[m].mode != mode)
            continue;
        fprintf(f, "set title 'cut %d%s%s%s, %s' offset 0,0.6\n", maps[m].cut.number, maps[m].cut.alias ? " (" : "",
                maps[m].cut.alias ? maps[m].cut.alias : "", maps[m].cut.alias ? ")" : "",
                cw_shape_format(&maps[m].shape, shape, sizeof shape));
        fprintf(f, plot_panel, maps[m].cut.number);
        fputs("unset key\n", f); /* one legend serves all panels */
    }
}

/* Panels side by side, three in a row; the same drawing for each kind of picture. */
static void write_script(FILE *f, const figure2_map *maps, size_t count, cw_mode mode, const cw_config *config)
{
    const char *name = mode_name(mode);
    size_t panels = maps_of(maps, count, mode), columns = panels < 3 ? panels : 3, rows = (panels + 2) / 3;
    const bool narrow = columns == 1; /* for the title */
    fprintf(f, "# gnuplot figure2-%s.gp, in the folder of figure2.csv\nmode = '%s'\n%s", name, name, plot_head);
    for (int svg = 0; svg < 2; svg++) {
        fputs(plot_key, f);
        fprintf(f, "set terminal %s size %zu,%zu font '%s'\nset output 'figure2-%s.%s'\n",
                svg ? "svg background 'white'" : "pngcairo background 'white'", 470 * columns, 480 * rows + 80,
                svg ? "Helvetica,12" : "Sans,10.5", name, svg ? "svg" : "png");
        fprintf(f,
                "set multiplot layout %zu,%zu title \"Error of the decoded feature map:%s%.32s on %.64s, %s\\n \" "
                "font ',%d' noenhanced\nset ylabel 'relative 2-norm error'\n",
                rows, columns, narrow ? "\\n" : " ", cw_config_string(config, "model"),
                cw_config_string(config, "data"),
                mode == CW_TRAIN ? "a training batch" : "a test batch in evaluation mode", narrow ? 11 : 14);
        write_panels(f, maps, count, mode);
        fputs("unset multiplot\nunset output\n", f);
    }
}

bool figure2_plot(const figure2_map *maps, size_t count, const cw_config *config, const char *folder)
{
    bool plotted = true;
    for (int i = 0; i < 2 && plotted; i++) {
        const cw_mode mode = i ? CW_EVAL : CW_TRAIN;
        char script[32], *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        if (!f)
            return false;
        write_script(f, maps, count, mode, config);
        snprintf(script, sizeof script, "figure2-%s.gp", mode_name(mode));
        plotted = fclose(f) == 0 && repro_plot(folder, script, text);
        free(text);
    }
    return plotted;
}

/* ---- tables ---- */

static void print_cell(const figure2_row *row, double value)
{
    if (row->measured && !isnan(value))
        printf(" %8.3g |", value);
    else
        printf(" %8s |", "-");
}

static const char *yes(bool x)
{
    return x ? "yes" : "no";
}

/* ms at this size: the best one; in the columns of the bounds, its own. */
static void print_size(const figure2_map *map, size_t i)
{
    const figure2_row *row = map->rows[i], *ms = &row[F2_MS], *qu = &row[F2_QU];
    printf("| %4.2f | %5.2f%% | %-22s |", figure2_size(i), 100 * (1 - figure2_size(i) / 32), ms->spec);
    for (size_t c = 0; c < F2_CODECS; c++)
        print_cell(&row[c], row[c].coded.relative);
    print_cell(ms, ms->alpha);
    print_cell(ms, ms->bound);
    print_cell(qu, qu->bound);
    print_cell(&row[F2_SP], row[F2_SP].bound);
    if (qu->measured)
        printf(" %-7s | %-7s |", yes(ms->bound < qu->bound), yes(ms->coded.l2 < qu->coded.l2));
    else
        printf(" %-7s | %-7s |", "-", "-");
    printf(" %-7s | %-7s |\n", yes(ms->bound < row[F2_SP].bound), yes(ms->coded.l2 < row[F2_SP].coded.l2));
}

static void print_map(const figure2_map *map)
{
    char shape[100];
    printf("\nCut %d, %s, %s%s\n\n", map->cut.number, cw_shape_format(&map->shape, shape, sizeof shape),
           map->mode == CW_TRAIN ? "training batch" : "evaluation",
           map->cut.non_negative ? "" : " (negative values occur: ms and sp spend a bit more on signs)");
    puts("| bits |   rate | best ms                |       ms | ms r=.99 |       qu |       sp |       rt |    alpha "
         "| bound ms | bound qu | bound sp | T4 <qu  | ms < qu | T4 <sp  | ms < sp |");
    puts("|-----:|-------:|:-----------------------|---------:|---------:|---------:|---------:|---------:|---------:"
         "|---------:|---------:|---------:|:--------|:--------|:--------|:--------|");
    for (size_t i = 0; i < F2_SIZES; i++)
        print_size(map, i);
}

static double least_alpha(const figure2_map *map)
{
    double least = 1;
    for (size_t i = 0; i < F2_SIZES; i++)
        least = fmin(least, map->rows[i][F2_MS].alpha);
    return least;
}

void figure2_print(const figure2_map *maps, size_t count)
{
    puts(
        "Relative 2-norm errors at matched sizes. alpha = |not kept by ms| / |x|. Bounds: (31) qu sqrt(d) / (2^b - "
        "1),\n"
        "(32) sp r, (33) ms alpha sqrt(r d) / (2^b - 1). 'T4 <qu': by Theorem 4's bounds ms is below qu; 'ms < qu': it "
        "was.");
    double least = 1;
    for (size_t m = 0; m < count; m++) {
        print_map(&maps[m]);
        least = fmin(least, least_alpha(&maps[m]));
    }
    printf("\nTheorem 4 puts ms below qu where alpha < 1/2 and next to nothing is kept: the least alpha here is %.3f, "
           "so its\n"
           "condition %s.\n",
           least,
           least < 0.5 ? "holds in places" : "holds nowhere, and where ms is below qu it is not by this argument");
}

/* ---- JSON ---- */

static void set_number(json_t *object, const char *key, double x)
{
    if (!isnan(x))
        json_object_set_new(object, key, json_real(x));
}

static json_t *row_json(size_t size, size_t codec, const figure2_row *row)
{
    json_t *o = json_pack("{s:s,s:s,s:f,s:I,s:f,s:f,s:f}", "codec", figure2_names[codec], "spec", row->spec, "size",
                          figure2_size(size), "payload_bytes", (json_int_t)row->coded.payload_bytes, "bits_per_element",
                          row->bits, "l2_error", row->coded.l2, "rel_error", row->coded.relative);
    set_number(o, "rel_bound", row->bound);
    set_number(o, "alpha", row->alpha);
    return o;
}

json_t *figure2_json(const figure2_map *maps, size_t count)
{
    json_t *array = json_array();
    for (size_t m = 0; m < count; m++) {
        json_t *rows = json_array();
        for (size_t i = 0; i < F2_SIZES; i++)
            for (size_t c = 0; c < F2_CODECS; c++)
                if (maps[m].rows[i][c].measured)
                    json_array_append_new(rows, row_json(i, c, &maps[m].rows[i][c]));
        json_array_append_new(array,
                              json_pack("{s:i,s:s,s:I,s:o}", "cut", maps[m].cut.number, "mode", mode_name(maps[m].mode),
                                        "elements", (json_int_t)maps[m].elements, "rows", rows));
    }
    return array;
}
