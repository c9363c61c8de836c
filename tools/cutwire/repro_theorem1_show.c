/* repro_theorem1_show.c - Theorem 1's measurements as CSV, pictures, a table and JSON. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repro_theorem1.h"

static const char *const half_names[] = {"client", "server"};

static const theorem1_half *half_of(const theorem1_row *row, size_t i)
{
    return i ? &row->server : &row->client;
}

static const char *direction(const theorem1_row *row)
{
    return row->downlink ? "downlink" : "uplink";
}

/* Halves that a codec reaches: the server's gradient never sees the downlink. */
static size_t halves(const theorem1_row *row)
{
    return row->downlink ? 1 : 2;
}

/* ---- CSV ---- */

static void put_point(FILE *f, const theorem1_row *rows, size_t i, size_t half, size_t seeds, double error)
{
    const theorem1_row *row = &rows[i];
    const theorem1_half *h = half_of(row, half);
    fprintf(f, "%zu,%s,%s,%zu,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,\"%s\"\n", i + 1, direction(row), half_names[half],
            seeds, error, h->spread / sqrt((double)seeds), h->bias, h->squared, h->squared_error, row->bits, row->error,
            row->spec);
}

cw_status theorem1_csv(const theorem1_row *rows, size_t count, const char *folder, cw_error *err)
{
    char path[600], *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return CW_ERR_NO_MEMORY;
    fputs("case,direction,half,seeds,error_of_mean,error_if_unbiased,bias,bias_squared,bias_squared_error,bits_per_"
          "element,"
          "codec_error,spec\n",
          f);
    for (size_t i = 0; i < count; i++)
        for (size_t h = 0; h < halves(&rows[i]); h++) {
            for (size_t p = 0; p < T1_POINTS && (size_t)1 << p < rows[i].seeds; p++)
                put_point(f, rows, i, h, (size_t)1 << p, half_of(&rows[i], h)->error[p]);
            put_point(f, rows, i, h, rows[i].seeds, half_of(&rows[i], h)->final_error);
        }
    snprintf(path, sizeof path, "%s/theorem1.csv", folder);
    cw_status status = fclose(f) == 0 ? cw_file_write(path, text, size, err) : CW_ERR_NO_MEMORY;
    free(text);
    return status;
}

/* ---- pictures ---- */

static const char plot_head[] =
    "# gnuplot theorem1.gp, in the folder of theorem1.csv\n"
    "set datafile separator ','\n"
    "set datafile columnheaders\n"
    "seeds(number, h) = column('case') == number && strcol('half') eq h ? column('seeds') : NaN\n"
    "set logscale xy\n"
    "set grid lc rgb '#e4e4e4' lt 1\n"
    "set border 3\n"
    "set tics nomirror\n"
    "set ytics (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)\n"
    "set xlabel 'seeds averaged'\n"
    "set bmargin at screen 0.37\n"
    "set ylabel '|mean gradient - g| / |g|'\n"
    "colour(i) = word('#d95f02 #e6ab02 #a6761d #666666 #1f78b4 #6a3d9a', i)\n";

/* Both panels show the same range. */
static void write_ranges(FILE *f, const theorem1_row *rows, size_t count)
{
    size_t seeds = 16;
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < count; i++) {
        seeds = rows[i].seeds > seeds ? rows[i].seeds : seeds;
        for (size_t k = 0; k < halves(&rows[i]); k++) {
            const theorem1_half *h = half_of(&rows[i], k);
            const double expected = h->spread / sqrt((double)rows[i].seeds);
            least = fmin(least, expected > 0 ? fmin(expected, h->final_error) : h->final_error);
            most = fmax(most, fmax(h->error[0], h->final_error));
        }
    }
    fprintf(f, "set xrange [0.9:%zu]\n", seeds * 5 / 4);
    if (least > 0)
        fprintf(f, "set yrange [%.3g:%.3g]\n", least / 1.5, most * 1.3);
}

/* A codec that draws nothing has one error, whatever the number of seeds: a level line. */
static void write_curves(FILE *f, const theorem1_row *rows, size_t count, size_t half)
{
    const char *name = half_names[half], *before = "plot ";
    for (size_t i = 0; i < count; i++) {
        const theorem1_row *row = &rows[i];
        const theorem1_half *h = half_of(row, half);
        if (half >= halves(row))
            continue;
        const int colour = row->downlink ? 5 + (int)(i % 2) : 1 + (int)(i % 4);
        if (row->seeds == 1)
            fprintf(f, "%s%.6g with lines dt 2 lw 2 lc rgb colour(%d) title '%s %s (no random numbers)'", before,
                    h->final_error, colour, direction(row), row->spec);
        else
            fprintf(
                f,
                "%s'theorem1.csv' using (seeds(%zu, '%s')):'error_of_mean' with linespoints pt %d lw 2 lc rgb "
                "colour(%d) title '%s %s', \\\n     %.6g / sqrt(x) with lines dt 3 lw 1.5 lc rgb colour(%d) notitle",
                before, i + 1, name, row->downlink ? 5 : 7, colour, direction(row), row->spec, h->spread, colour);
        before = ", \\\n     ";
    }
    fputc('\n', f);
}

static void write_script(FILE *f, const theorem1_row *rows, size_t count, const cw_config *config, const cw_cut *cut)
{
    fputs(plot_head, f);
    write_ranges(f, rows, count);
    for (int svg = 0; svg < 2; svg++) {
        fprintf(f, "set terminal %s size 1300,720 font '%s'\nset output 'theorem1.%s'\n",
                svg ? "svg background 'white'" : "pngcairo background 'white'", svg ? "Helvetica,12" : "Sans,10.5",
                svg ? "svg" : "png");
        fprintf(f,
                "set multiplot layout 1,2 title \"Mean gradient over a codec's seeds: %.32s on %.64s, cut %d "
                "(dotted: what no bias would give)\" font ',14' noenhanced\nset key at graph 0.5, graph -0.17 top "
                "center noenhanced samplen 2 spacing 1.1\n",
                cw_config_string(config, "model"), cw_config_string(config, "data"), cut->number);
        for (size_t half = 0; half < 2; half++) {
            fprintf(f, "set title \"gradient of the %s's half\"\n", half_names[half]);
            write_curves(f, rows, count, half);
        }
        fputs("unset multiplot\nunset output\n", f);
    }
}

bool theorem1_plot(const theorem1_row *rows, size_t count, const cw_config *config, const cw_cut *cut,
                   const char *folder)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return false;
    write_script(f, rows, count, config, cut);
    bool plotted = fclose(f) == 0 && repro_plot(folder, "theorem1.gp", text);
    free(text);
    return plotted;
}

/* ---- the table ---- */

static const char *verdict(const theorem1_row *row, const theorem1_half *h)
{
    if (!theorem1_biased(row, h))
        return "no bias seen";
    return row->seeds == 1 ? "all of it" : "the bias";
}

void theorem1_print(const theorem1_row *rows, size_t count)
{
    puts("Gradient with a codec against g, the gradient without, same weights and batch; all relative to |g|. Bias: "
         "what "
         "no\naveraging removes, from pairs of independent groups of seeds, +- the standard error of its square over "
         "twice itself.\n");
    puts("| codec | on the | bits | error of what crosses | gradient of the | seeds | error of one | of the mean | "
         "with no "
         "bias | bias | +- | averaging leaves |");
    puts("|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---|");
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < halves(&rows[i]); k++) {
            const theorem1_row *row = &rows[i];
            const theorem1_half *h = half_of(row, k);
            const double doubt = h->bias > 0 ? h->squared_error / (2 * h->bias) : sqrt(h->squared_error);
            printf("| `%s` | %s | %.2f | %.3f | %s | %zu | %.4f | %.4f | %.4f | %.4f | %.4f | %s |\n", row->spec,
                   direction(row), row->bits, row->error, half_names[k], row->seeds, h->error[0], h->final_error,
                   h->spread / sqrt((double)row->seeds), h->bias, doubt, verdict(row, h));
        }
    puts("\nThe server's gradient never sees the downlink.");
}

/* ---- JSON ---- */

static json_t *half_json(const theorem1_row *row, const theorem1_half *h)
{
    json_t *errors = json_array();
    for (size_t p = 0; p < T1_POINTS && (size_t)1 << p <= row->seeds; p++)
        json_array_append_new(errors, json_real(h->error[p]));
    return json_pack("{s:o,s:f,s:f,s:f,s:f,s:f,s:b}", "error_at_powers_of_2", errors, "error_of_mean", h->final_error,
                     "spread", h->spread, "bias", h->bias, "bias_squared", h->squared, "bias_squared_error",
                     h->squared_error, "biased", theorem1_biased(row, h));
}

json_t *theorem1_json(const theorem1_row *rows, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        const theorem1_row *row = &rows[i];
        json_t *o = json_pack("{s:s,s:s,s:I,s:f,s:f,s:o}", "codec", row->spec, "direction", direction(row), "seeds",
                              (json_int_t)row->seeds, "bits_per_element", row->bits, "codec_error", row->error,
                              "client", half_json(row, &row->client));
        if (!row->downlink)
            json_object_set_new(o, "server", half_json(row, &row->server));
        json_array_append_new(array, o);
    }
    return array;
}
