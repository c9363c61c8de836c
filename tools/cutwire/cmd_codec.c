/* cmd_codec.c - cutwire codec: tensors in .npy files to payloads and back. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli_files.h"
#include "cli_profile.h"
#include "commands.h"

/* What the options of all subcommands set. */
typedef struct options {
    const char *codec, *in, *out, *profile;
    int seed, threads;
    bool evaluate, json;
} options;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- help ---- */

static void print_families(FILE *out)
{
    fputs("\ncodecs (SPEC is NAME or NAME:key=value,...):\n", out);
    for (size_t i = 0; i < cw_codec_family_count(); i++) {
        const cw_codec_family *f = cw_codec_family_at(i);
        fprintf(out, "  %-5s %s\n", f->name, f->summary);
        if (*f->keys)
            fprintf(out, "        %s\n", f->keys);
    }
}

/* ---- options ---- */

static int required(const char *command, const char *name, const char *value)
{
    if (value)
        return CLI_GO_ON;
    return cli_fail(CLI_USAGE, "%s: --%s is missing: `cutwire %s --help` shows the usage", command, name, command);
}

#define OPTION_CODEC(o)                                                                                                \
    {                                                                                                                  \
        "codec", "SPEC", "the codec, e.g. ms:r=0.99,b=2", CLI_STRING, &(o).codec                                       \
    }
#define OPTION_SEED(o)                                                                                                 \
    {                                                                                                                  \
        "seed", "N", "stream of codecs that draw random numbers [0]", CLI_INT, &(o).seed                               \
    }
#define OPTION_EVALUATE(o)                                                                                             \
    {                                                                                                                  \
        "evaluate", NULL, "the deterministic form of codecs that sample", CLI_FLAG, &(o).evaluate                      \
    }
#define OPTION_THREADS(o)                                                                                              \
    {                                                                                                                  \
        "threads", "N", "threads to use [1]; the bytes are the same", CLI_INT, &(o).threads                            \
    }
#define OPTION_PROFILE(o)                                                                                              \
    {                                                                                                                  \
        "profile", "FILE", "the profile that the payload takes, where it takes one", CLI_STRING, &(o).profile          \
    }
#define OPTION_JSON(o)                                                                                                 \
    {                                                                                                                  \
        "json", NULL, "print one JSON object as the last line", CLI_FLAG, &(o).json                                    \
    }
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- encoding and decoding, with times ---- */

typedef struct encoded {
    cw_codec *codec;
    cw_profile *profile; /* or NULL */
    cw_tensor input;
    uint8_t *bytes;
    size_t size;
    double seconds;
} encoded;

static void encoded_free(encoded *e)
{
    cw_codec_destroy(&e->codec);
    cw_profile_destroy(&e->profile);
    cw_tensor_free(&e->input);
    free(e->bytes);
}

/* Loads o->in and encodes it. On failure *e is still to be freed. */
static int load_and_encode(const char *command, const options *o, encoded *e)
{
    memset(e, 0, sizeof *e);
    cw_error err = {.message = ""};
    int code = cli_codec_open(command, o->codec, &e->codec, &e->profile);
    if (code != CLI_GO_ON)
        return code;
    code = cli_npy_read(command, o->in, &e->input);
    if (code != CLI_GO_ON)
        return code;
    size_t bound = cw_codec_bound(e->codec, &e->input);
    e->bytes = malloc(bound ? bound : 1);
    if (!e->bytes)
        return cli_fail(CLI_FAILURE, "%s: %s: out of memory (%zu bytes for the payload)", command,
                        cli_input_name(o->in), bound);
    memset(e->bytes, 0, bound); /* so that the time below is encoding's own, not the system's for fresh memory */
    const cw_encode_args args = {
        .seed = (uint64_t)o->seed, .evaluate = o->evaluate, .threads = o->threads, .profile = e->profile};
    double began = now();
    const cw_status status = cw_encode(e->codec, &e->input, &args, e->bytes, bound, &e->size, &err);
    e->seconds = now() - began;
    return status == CW_OK ? CLI_GO_ON
                           : cli_fail(CLI_FAILURE, "%s: %s: %s", command, cli_input_name(o->in), err.message);
}

/* Decodes into a tensor of the dtype it was encoded from. */
static int decode(const char *command, const char *what, const uint8_t *bytes, size_t size, const cw_decode_args *args,
                  cw_tensor *out, double *seconds)
{
    cw_payload_info info;
    cw_error err = {.message = ""};
    memset(out, 0, sizeof *out);
    cw_status status = cw_payload_inspect(bytes, size, &info, &err);
    if (status == CW_OK)
        status = cw_tensor_alloc(out, info.dtype, &info.shape);
    if (status == CW_OK)
        memset(out->data, 0, info.elements * cw_dtype_size(info.dtype)); /* as above */
    double began = now();
    if (status == CW_OK)
        status = cw_decode(bytes, size, out, args, &err);
    *seconds = now() - began;
    if (status == CW_OK)
        return CLI_GO_ON;
    const char *why = *err.message ? err.message : cw_status_message(status);
    if (err.offset != CW_NO_OFFSET && *err.message)
        return cli_fail(CLI_FAILURE, "%s: %s: %s (at byte %llu)", command, what, why, (unsigned long long)err.offset);
    return cli_fail(CLI_FAILURE, "%s: %s: %s", command, what, why);
}

/* With the profile that --profile names, if any. */
static int decode_file(const char *command, const options *o, const cli_input *in, cw_tensor *out, double *seconds)
{
    cw_profile *profile;
    memset(out, 0, sizeof *out);
    int code = cli_profile_read(command, o->profile, &profile);
    if (code == CLI_GO_ON)
        code = decode(command, cli_input_name(o->in), in->data, in->size,
                      &(cw_decode_args){.threads = o->threads, .profile = profile}, out, seconds);
    cw_profile_destroy(&profile);
    return code;
}

/* ---- results ---- */

static json_t *shape_json(const cw_shape *shape)
{
    json_t *dims = json_array();
    for (int i = 0; i < shape->ndim; i++)
        json_array_append_new(dims, json_integer(shape->dim[i]));
    return dims;
}

/* The members that every subcommand's object has. */
static json_t *describe(const cw_payload_info *info)
{
    const double raw = (double)info->elements * (double)cw_dtype_size(info->dtype), size = (double)info->payload_bytes;
    json_t *object = json_object();
    json_object_set_new(object, "codec", json_string(info->codec));
    json_object_set_new(object, "dtype", json_string(cw_dtype_name(info->dtype)));
    json_object_set_new(object, "shape", shape_json(&info->shape));
    json_object_set_new(object, "elements", json_integer((json_int_t)info->elements));
    json_object_set_new(object, "raw_bytes", json_integer((json_int_t)raw));
    json_object_set_new(object, "payload_bytes", json_integer((json_int_t)info->payload_bytes));
    json_object_set_new(object, "header_bytes", json_integer((json_int_t)info->header_bytes));
    json_object_set_new(object, "bits_per_element", json_real(info->elements ? 8 * size / (double)info->elements : 0));
    json_object_set_new(object, "ratio", json_real(raw / size));
    if (info->profile) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)info->profile);
        json_object_set_new(object, "profile", json_string(hash));
    }
    return object;
}

static void print_summary(const char *file, const cw_payload_info *info)
{
    char shape[100];
    const double raw = (double)info->elements * (double)cw_dtype_size(info->dtype), size = (double)info->payload_bytes;
    printf("%s: %s of %s, %s\n", cli_input_name(file), cw_dtype_name(info->dtype),
           cw_shape_format(&info->shape, shape, sizeof shape), info->codec);
    if (info->profile)
        printf("  with profile %016llx\n", (unsigned long long)info->profile);
    printf("  %zu bytes for %.0f: %.2f times smaller, %.3f bits an element\n", info->payload_bytes, raw, raw / size,
           info->elements ? 8 * size / (double)info->elements : 0);
}

static double value_at(const cw_tensor *t, size_t i)
{
    if (t->dtype == CW_F32)
        return (double)((const float *)t->data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

typedef struct errors {
    double l2, relative, largest;
} errors;

static errors compare(const cw_tensor *x, const cw_tensor *y, size_t elements)
{
    errors e = {0, 0, 0};
    double norm = 0;
    for (size_t i = 0; i < elements; i++) {
        double a = value_at(x, i), d = value_at(y, i) - a;
        norm += a * a;
        e.l2 += d * d;
        e.largest = fmax(e.largest, fabs(d));
    }
    e.l2 = sqrt(e.l2);
    e.relative = norm > 0 ? e.l2 / sqrt(norm) : 0;
    return e;
}

/* What encode and decode print: the payload's description, with the time under `key`. */
static int report(const options *o, const char *file, const uint8_t *bytes, size_t size, const char *key,
                  double seconds)
{
    cw_payload_info info;
    cw_error err;
    cw_status status = cw_payload_inspect(bytes, size, &info, &err);
    if (status != CW_OK)
        return cli_fail_error(cli_input_name(file), status, &err);
    if (cli_is_standard(o->out))
        return CLI_OK; /* standard output has the bytes, and nothing else */
    if (!o->json) {
        print_summary(file, &info);
        return CLI_OK;
    }
    json_t *object = describe(&info);
    json_object_set_new(object, key, json_real(seconds));
    json_object_set_new(object, "out", cli_json_text(o->out));
    return cli_print_json(object);
}

/* ---- subcommands ---- */

static int run_encode(int argc, char **argv)
{
    options o = {.threads = 1};
    const cli_option table[] = {
        OPTION_CODEC(o),
        {"in", "FILE", "the tensor, .npy with f4 elements; -: standard input", CLI_STRING, &o.in},
        {"out", "FILE", "where the payload goes, replacing what is there; -: standard output", CLI_STRING, &o.out},
        OPTION_SEED(o),
        OPTION_EVALUATE(o),
        OPTION_THREADS(o),
        OPTION_JSON(o)};
    const cli_command command = {.name = "codec encode",
                                 .args = "",
                                 .summary = "Encodes the tensor of a .npy file into a payload file.",
                                 .examples = "  cutwire codec encode --codec ms:r=0.99,b=2 --in x.npy --out x.cw\n"
                                             "  cutwire codec encode --codec fp16 --in - --out - <x.npy >x.cw\n",
                                 .options = table,
                                 .option_count = COUNT(table)};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON || (code = required(command.name, "codec", o.codec)) != CLI_GO_ON ||
        (code = required(command.name, "in", o.in)) != CLI_GO_ON ||
        (code = required(command.name, "out", o.out)) != CLI_GO_ON ||
        (code = cli_output_check(command.name, o.in, o.out, o.json)) != CLI_GO_ON)
        return code;
    encoded e;
    code = load_and_encode(command.name, &o, &e);
    if (code == CLI_GO_ON)
        code = cli_output_write(command.name, o.out, e.bytes, e.size);
    if (code == CLI_GO_ON)
        code = report(&o, o.out, e.bytes, e.size, "encode_seconds", e.seconds);
    encoded_free(&e);
    return code;
}

static int run_decode(int argc, char **argv)
{
    options o = {.threads = 1};
    const cli_option table[] = {
        {"in", "FILE", "the payload; -: standard input", CLI_STRING, &o.in},
        {"out", "FILE", "where the tensor goes, .npy, replacing what is there; -: standard output", CLI_STRING, &o.out},
        OPTION_PROFILE(o),
        OPTION_THREADS(o),
        OPTION_JSON(o)};
    const cli_command command = {.name = "codec decode",
                                 .args = "",
                                 .summary = "Decodes a payload file into a .npy file. The payload says all there is to "
                                            "know, but for a profile.",
                                 .examples = "  cutwire codec decode --in x.cw --out y.npy\n",
                                 .options = table,
                                 .option_count = COUNT(table)};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON || (code = required(command.name, "in", o.in)) != CLI_GO_ON ||
        (code = required(command.name, "out", o.out)) != CLI_GO_ON ||
        (code = cli_output_check(command.name, o.in, o.out, o.json)) != CLI_GO_ON)
        return code;
    cli_input in;
    code = cli_input_read(command.name, o.in, &in);
    if (code != CLI_GO_ON)
        return code;
    cw_tensor out;
    double seconds;
    code = decode_file(command.name, &o, &in, &out, &seconds);
    if (code == CLI_GO_ON)
        code = cli_npy_write(command.name, o.out, &out);
    if (code == CLI_GO_ON)
        code = report(&o, o.in, in.data, in.size, "decode_seconds", seconds);
    cw_tensor_free(&out);
    cli_input_free(&in);
    return code;
}

static int report_roundtrip(const options *o, const encoded *e, const cw_tensor *back, double decode_seconds)
{
    cw_payload_info info;
    cw_error err;
    cw_status status = cw_payload_inspect(e->bytes, e->size, &info, &err);
    if (status != CW_OK)
        return cli_fail_error("codec roundtrip", status, &err);
    const errors x = compare(&e->input, back, info.elements);
    if (!o->json) {
        print_summary(o->in, &info);
        printf("  2-norm error %.6g, relative %.6g, largest %.6g\n", x.l2, x.relative, x.largest);
        printf("  encoded in %.6f s, decoded in %.6f s (%s)\n", e->seconds, decode_seconds, cw_cpu_variant());
        return CLI_OK;
    }
    json_t *object = describe(&info);
    json_object_set_new(object, "l2_error", cli_json_number(x.l2));
    json_object_set_new(object, "rel_error", cli_json_number(x.relative));
    json_object_set_new(object, "max_error", cli_json_number(x.largest));
    json_object_set_new(object, "encode_seconds", json_real(e->seconds));
    json_object_set_new(object, "decode_seconds", json_real(decode_seconds));
    json_object_set_new(object, "variant", json_string(cw_cpu_variant()));
    return cli_print_json(object);
}

static int run_roundtrip(int argc, char **argv)
{
    options o = {.threads = 1};
    const cli_option table[] = {
        OPTION_CODEC(o),
        {"in", "FILE", "the tensor, .npy with f4 elements; -: standard input", CLI_STRING, &o.in},
        {"out", "FILE",
         "where the decoded tensor goes, .npy, replacing what is there; -: standard output, "
         "and the figures are left out",
         CLI_STRING, &o.out},
        OPTION_SEED(o),
        OPTION_EVALUATE(o),
        OPTION_THREADS(o),
        OPTION_JSON(o)};
    const cli_command command = {.name = "codec roundtrip",
                                 .args = "",
                                 .summary = "Encodes and decodes a tensor, and prints sizes, error and times.",
                                 .examples = "  cutwire codec roundtrip --codec ms:r=0.99,b=2 --in x.npy --json\n"
                                             "  cutwire codec roundtrip --codec fp16 --in x.npy --out y.npy\n",
                                 .options = table,
                                 .option_count = COUNT(table)};
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code != CLI_GO_ON || (code = required(command.name, "codec", o.codec)) != CLI_GO_ON ||
        (code = required(command.name, "in", o.in)) != CLI_GO_ON ||
        (code = cli_output_check(command.name, o.in, o.out, o.json)) != CLI_GO_ON)
        return code;
    encoded e;
    cw_tensor back = {.data = NULL};
    double seconds = 0;
    code = load_and_encode(command.name, &o, &e);
    if (code == CLI_GO_ON)
        code = decode(command.name, cli_input_name(o.in), e.bytes, e.size,
                      &(cw_decode_args){.threads = o.threads, .profile = e.profile}, &back, &seconds);
    if (code == CLI_GO_ON && o.out)
        code = cli_npy_write(command.name, o.out, &back);
    if (code == CLI_GO_ON)
        code = o.out && cli_is_standard(o.out) ? CLI_OK : report_roundtrip(&o, &e, &back, seconds);
    cw_tensor_free(&back);
    encoded_free(&e);
    return code;
}

static int report_inspection(const options *o, const cli_input *in)
{
    cw_payload_info info;
    cw_error err;
    cw_status status = cw_payload_inspect(in->data, in->size, &info, &err);
    if (status != CW_OK)
        return cli_fail_error("codec inspect", status, &err);
    if (!o->json) {
        print_summary(o->in, &info);
        printf("  format version %u, header %zu bytes, CRC-32C %08x, decodes\n", info.version, info.header_bytes,
               info.checksum);
        return CLI_OK;
    }
    json_t *object = describe(&info);
    json_object_set_new(object, "version", json_integer(info.version));
    json_object_set_new(object, "checksum", json_integer((json_int_t)info.checksum));
    return cli_print_json(object);
}

static int run_inspect(int argc, char **argv)
{
    options o = {.threads = 1};
    const cli_option table[] = {OPTION_PROFILE(o), OPTION_JSON(o)};
    const cli_command command = {.name = "codec inspect",
                                 .args = "FILE",
                                 .summary =
                                     "Prints what a payload says of itself, and checks that it decodes. FILE may "
                                     "be -, standard input.",
                                 .examples = "  cutwire codec inspect x.cw\n",
                                 .options = table,
                                 .option_count = COUNT(table),
                                 .min_args = 1,
                                 .max_args = 1};
    int code = cli_parse(&command, argc, argv, &o.in, NULL);
    if (code != CLI_GO_ON)
        return code;
    cli_input in;
    code = cli_input_read(command.name, o.in, &in);
    if (code != CLI_GO_ON)
        return code;
    cw_tensor out;
    double seconds;
    code = decode_file(command.name, &o, &in, &out, &seconds);
    if (code == CLI_GO_ON)
        code = report_inspection(&o, &in);
    cw_tensor_free(&out);
    cli_input_free(&in);
    return code;
}

int cmd_codec(int argc, char **argv)
{
    static const cli_sub table[] = {
        {"encode", run_encode, ".npy -> payload"},
        {"decode", run_decode, "payload -> .npy"},
        {"roundtrip", run_roundtrip, "both in memory; prints sizes, error and times"},
        {"train", cmd_codec_train, "a profile of earlier tensors, for ec"},
        {"inspect", run_inspect, "what a payload says of itself"},
    };
    static const cli_group group = {
        .name = "codec",
        .kind = "subcommand",
        .summary =
            "Compresses the tensor in a .npy file, gets it back, and measures what that costs. A file named - is\n"
            "standard input or output (./- is a file of that name).",
        .subs = table,
        .count = COUNT(table),
        .more = print_families,
        .examples =
            "  cutwire codec encode --codec ms:r=0.99,b=2 --in x.npy --out x.cw\n"
            "  cutwire codec decode --in x.cw --out y.npy\n"
            "  cutwire codec roundtrip --codec ms:r=0.99,b=2 --in x.npy --json\n"
            "  cutwire codec roundtrip --codec ec:err=0.25 --in map.npy --json\n"
            "  cutwire codec roundtrip --codec ec:step=5,round=stochastic,scope=sample --in gradient.npy --json\n"
            "  cutwire codec train --codec ec:err=0.15 --out cut.profile maps/*.npy\n"
            "  cutwire codec roundtrip --codec ec:err=0.15,profile=cut.profile --in map.npy --json\n"
            "  cutwire codec inspect x.cw\n"
            "  cutwire codec encode --codec fp16 --in - --out - <x.npy | ssh device cutwire codec inspect -\n",
    };
    return cli_group_run(&group, argc, argv);
}
