/* repro_figure1.c - the paper's worked example: top-4 of a 4x4 map, 2 bits of mask. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "repro.h"

enum { SIDE = 4, ELEMENTS = SIDE * SIDE, KEPT = 4, BITS = 2, ONES = (1 << BITS) - 1 };

static float input[ELEMENTS] = {2.2f, 0.8f, 1.2f, 0.4f, 1.8f, 0.2f, 3.1f, 2.0f,
                                2.1f, 0.2f, 1.1f, 1.7f, 0.3f, 2.8f, 1.4f, 0.9f};
static const float smallest_kept = 2.1f; /* Top_min */

typedef struct variant {
    const char *name, *spec, *said;
    double paper; /* its 2-norm error as printed in the paper, or 0 */
    repro_coded coded;
    float recovered[ELEMENTS];
    unsigned codes[ELEMENTS];
} variant;

/* The mask as the decoder saw it: a value that came back whole had the code of all ones, any other is its code's share
 * of Top_min. */
static void read_codes(variant *v)
{
    for (int i = 0; i < ELEMENTS; i++)
        v->codes[i] = input[i] >= smallest_kept ? ONES : (unsigned)lroundf(v->recovered[i] * ONES / smallest_kept);
}

static void print_row(const variant *v, int row)
{
    const float *x = input + row * SIDE, *y = v->recovered + row * SIDE;
    const unsigned *c = v->codes + row * SIDE;
    printf("    %.1f %.1f %.1f %.1f      ", (double)x[0], (double)x[1], (double)x[2], (double)x[3]);
    for (int i = 0; i < SIDE; i++)
        printf("%u%u ", c[i] >> 1, c[i] & 1);
    printf("     %.1f %.1f %.1f %.1f\n", (double)y[0], (double)y[1], (double)y[2], (double)y[3]);
}

static void print_text(const variant *variants, int count)
{
    for (int i = 1; i < count; i++) {
        printf("round=%s\n    input                codes            recovered\n", variants[i].name);
        for (int row = 0; row < SIDE; row++)
            print_row(&variants[i], row);
        putchar('\n');
    }
    printf("%-24s %-28s %10s %8s\n", "2-norm error", "codec", "measured", "paper");
    for (int i = 0; i < count; i++)
        printf("%-24s %-28s %10.4f %8s\n", variants[i].said, variants[i].spec, variants[i].coded.l2,
               variants[i].paper > 0 ? (i ? "1.02" : "4.06") : "-");
    const repro_coded *c = &variants[1].coded;
    printf("\nsize: %zu bytes of fp32 -> %d bytes (%d codes of %d bits and %d values); the payload with its header,\n"
           "      which describes it and pays off on real maps, has %zu\n",
           sizeof input, ELEMENTS * BITS / 8 + KEPT * 4, ELEMENTS, BITS, KEPT, c->payload_bytes);
    puts("The codes printed in the paper are those of round=floor, the error it states is that of round=nearest.");
}

static json_t *matrix(const variant *v, bool codes)
{
    json_t *rows = json_array();
    for (int row = 0; row < SIDE; row++) {
        json_t *line = json_array();
        for (int i = row * SIDE; i < (row + 1) * SIDE; i++)
            json_array_append_new(line, codes ? json_integer(v->codes[i]) : json_real((double)v->recovered[i]));
        json_array_append_new(rows, line);
    }
    return rows;
}

static int print_json(const variant *variants, int count)
{
    json_t *object =
        json_pack("{s:i,s:i}", "raw_bytes", (int)sizeof input, "coded_bytes", ELEMENTS * BITS / 8 + KEPT * 4);
    for (int i = 0; i < count; i++) {
        const variant *v = &variants[i];
        json_t *o = json_pack("{s:s,s:f,s:I,s:o}", "codec", v->spec, "l2_error", v->coded.l2, "payload_bytes",
                              (json_int_t)v->coded.payload_bytes, "recovered", matrix(v, false));
        if (v->paper > 0)
            json_object_set_new(o, "paper_l2_error", json_real(v->paper));
        if (i > 0)
            json_object_set_new(o, "codes", matrix(v, true));
        json_object_set_new(object, v->name, o);
    }
    return cli_print_json(object);
}

int repro_figure1(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = {{"json", NULL, "print one JSON object as the last line", CLI_FLAG, &json}};
    const cli_command command = {.name = "repro figure1",
                                 .args = "",
                                 .summary = "The paper's worked example through the codec: a 4x4 map, the 4 largest "
                                            "values kept, 2 bits of mask.",
                                 .examples = "  cutwire repro figure1\n  cutwire repro figure1 --json\n",
                                 .options = options,
                                 .option_count = sizeof options / sizeof options[0]};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON)
        return code;
    variant variants[] = {
        {.name = "top4", .spec = "sp:r=0.75", .said = "top-4 alone", .paper = 4.06},
        {.name = "floor", .spec = "ms:r=0.75,b=2,round=floor", .said = "masked, rounded down"},
        {.name = "nearest", .spec = "ms:r=0.75,b=2,round=nearest", .said = "masked, nearest", .paper = 1.02},
    };
    const int count = sizeof variants / sizeof variants[0];
    const cw_shape shape = cw_shape_of(2, (int64_t[]){SIDE, SIDE});
    const cw_tensor x = cw_tensor_view(CW_F32, &shape, input);
    for (int i = 0; i < count; i++) {
        cw_error err = {.message = ""};
        cw_status status = repro_through(variants[i].spec, 0, &x, variants[i].recovered, &variants[i].coded, &err);
        if (status != CW_OK)
            return cli_fail_error(command.name, status, &err);
        read_codes(&variants[i]);
    }
    if (json)
        return print_json(variants, count);
    print_text(variants, count);
    return CLI_OK;
}
