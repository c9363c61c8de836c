/* ctx.h - symbols 0..15 of a whole tensor <-> bytes, coded in the context of their neighbours: docs/formats/payload.md.
 * Internal.
 *
 * The symbols lie in memory as the tensor's elements do. A tensor of 3 dimensions or more whose last one is at most
 * CWI_CTX_WIDTH is taken as planes of the last two, any other as planes of one element. Plane i is of channel i % C
 * and sample i / C, where C is dimension 1 of a tensor of 4 dimensions taken as planes, or of 2; otherwise there is
 * one channel. 32 planes make a group, one in each lane:
 *   - with 16 samples or more, planes of one channel; groups that follow each other are the channels of the same
 *     samples, which is a section, and later ones may be predicted from earlier ones;
 *   - with fewer, all samples of several channels; or, where these are small, of one channel all the same.
 * Whole sections of CWI_CTX_BLOCK elements or more are a block, which is a stream of its own, so that blocks can be
 * coded by several threads. */
#ifndef CWI_CTX_H
#define CWI_CTX_H

#include "codec/codec_impl.h"

/* Counts have 32 bits. */
#define CWI_CTX_ELEMENTS_MOST UINT32_MAX

enum {
    CWI_CTX_WIDTH = 4096,
    CWI_CTX_NARROW = 1 << 14, /* elements of a sample, at most, where lanes are left empty: it costs time and memory */
    CWI_CTX_BLOCK = 1 << 18,
    CWI_CTX_STRIP = 512, /* positions handled at a time, in whole rows */
    CWI_CTX_PREFIX = 12,
    CWI_CTX_FITTED = 128,          /* elements from which on contexts may save more than they take */
    CWI_CTX_SHARED = 8,            /* most sets of weights that channels share */
    CWI_CTX_OWN_LEAST = 64,        /* a channel has a set of its own only from this many elements on */
    CWI_CTX_OWN_MOST = 65536,      /* and only with at most this many channels */
    CWI_CTX_COARSE_MOST = 1 << 15, /* elements, so few that exact tables would be much of all */
    CWI_CTX_LONG_ROW = 256         /* elements of a row, above which a sample of few rows tells too little */
};

typedef struct cwi_ctx_shape {
    size_t planes, channels, height, width;
    size_t elements;
    size_t samples;
    size_t lanes;          /* samples in a group; the last section may have fewer */
    size_t beside;         /* channels in a group */
    size_t groups;         /* in a section */
    size_t sections;       /* in all */
    size_t block_sections; /* in each block, the last one may have fewer */
    size_t blocks;
} cwi_ctx_shape;

void cwi_ctx_shape_of(const cw_shape *shape, size_t elements, cwi_ctx_shape *out);
/* The same with one channel in a group, however few samples there are: channels may refer to others, and most lanes are
 * empty. False where that cannot be had, or is no different. */
bool cwi_ctx_shape_narrow(const cw_shape *shape, size_t elements, cwi_ctx_shape *out);

/* How a channel is predicted; ref[] are channels before it. */
typedef struct cwi_ctx_set {
    int16_t bias, weight[CWI_CTX_WEIGHTS];
    uint16_t refs, ref[CWI_CTX_REFS];
} cwi_ctx_set;

typedef enum cwi_ctx_mode {
    CWI_CTX_PLAIN, /* one table for all; no weights */
    CWI_CTX_SHARE, /* each channel has one of a few sets */
    CWI_CTX_OWN,   /* each channel has its own */
} cwi_ctx_mode;

typedef struct cwi_ctx_tables {
    cwi_ctx_model model;
    bool fresh[CWI_CONTEXTS]; /* whether a context has a table of its own, or that of the one before */
    bool coarse;              /* probabilities are in 1/256, and take few bits */
    cwi_ctx_mode mode;
    unsigned zero;     /* the symbol that neighbours beyond the edge of a plane are taken for */
    unsigned shared;   /* how many sets, with CWI_CTX_SHARE */
    cwi_ctx_set *sets; /* cwi_ctx_most_sets() */
    uint8_t *of;       /* with CWI_CTX_SHARE each channel's set */
} cwi_ctx_tables;

static inline bool cwi_ctx_may_own(const cwi_ctx_shape *s)
{
    return s->channels <= CWI_CTX_OWN_MOST && s->elements >= CWI_CTX_OWN_LEAST * s->channels && s->elements > 0;
}
/* Whether groups may be predicted from others: their lanes are the same samples. */
static inline bool cwi_ctx_may_refer(const cwi_ctx_shape *s)
{
    return s->beside == 1;
}
/* Whether the rows of a whole section are kept, for later channels to refer to. */
static inline bool cwi_ctx_holds_section(const cwi_ctx_shape *s)
{
    return cwi_ctx_may_refer(s) && s->channels > 1;
}
static inline size_t cwi_ctx_most_sets(const cwi_ctx_shape *s)
{
    return cwi_ctx_may_own(s) ? CWI_MAX(s->channels, (size_t)CWI_CTX_SHARED) : CWI_CTX_SHARED;
}

/* ---- what magnitudes are like in their contexts ---- */

enum {
    CWI_CTX_CLASSES = 16,       /* classes of CWI_CONTEXTS / 16 contexts that follow each other */
    CWI_CTX_CLASSED = 4,        /* symbols of magnitudes that are told apart by class */
    CWI_CTX_ONE = CWI_EC_PLACES /* what a magnitude of 1 is in whole numbers */
};

/* Of elements of one class and symbol, in a sample: how many, their magnitudes and the squares of these. */
typedef struct cwi_ctx_moment {
    uint64_t count, sum, square;
} cwi_ctx_moment;

typedef struct cwi_ctx_moments {
    cwi_ctx_moment of[CWI_CTX_CLASSES][CWI_SYMBOLS];
    uint64_t elements; /* in the sample, of all symbols */
    uint64_t weight;   /* of these; or of all, as many as there are of each class and symbol */
} cwi_ctx_moments;

static inline void cwi_ctx_moment_add(cwi_ctx_moment *to, const cwi_ctx_moment *more)
{
    to->count += more->count;
    to->sum += more->sum;
    to->square += more->square;
}

/* Magnitudes of n <= CWI_CTX_WIDTH elements from `first` on, `stride` apart, below 4, times CWI_CTX_ONE, or whatever
 * else moments are wanted of; called from several threads. Returns what each of them counts, below 2^16: with 0 not at
 * all. Of a stride above 1 only where all have one weight. */
typedef unsigned cwi_ctx_magnitudes(const void *of, size_t first, size_t stride, size_t n, uint16_t *out);

/* What elements are before they are symbols, in 1/CWI_CTX_PARTS of a symbol, for weights to be fitted to: `rows` rows
 * of `width` elements, which begin `row` after element `first`. Of elements that it has nothing better for `out` stays
 * as it is, the symbols. */
enum { CWI_CTX_PARTS = 8, CWI_CTX_PARTS_MOST = 127 };
typedef void cwi_ctx_expected(const void *of, size_t first, const size_t *row, size_t rows, size_t width, int8_t *out);

/* ---- encoding ---- */

typedef struct cwi_ctx_encoder {
    const cwi_kernels *kernels;
    cwi_ctx_shape shape;
    const uint8_t *symbols; /* shape.elements of them, each < CWI_SYMBOLS */
    const uint8_t *support; /* NULL, or as many bytes: where they are 0 symbols are, and are not coded */
    unsigned threads;
    uint8_t *work;                  /* cwi_ctx_work_size() bytes, 64-byte aligned */
    bool bare;                      /* no sizes before it, and those of streams in few bytes: as ec has it */
    const cwi_ctx_tables *given;    /* NULL, or what is taken as it is, and not written: it knows all symbols; bare */
    bool smooth;                    /* tables are to know all symbols in all contexts */
    bool coarse;                    /* and may be coarse; bare */
    bool quick;                     /* weights are not to take long */
    bool keep;                      /* whether the weights of the last plan are taken again where it had any */
    bool keep_plain;                /* with it: also that one table was as good */
    cwi_ctx_magnitudes *magnitudes; /* NULL where no moments are wanted */
    const void *of;
    cwi_ctx_expected *expected; /* NULL, or what weights are fitted to in place of the symbols, also of `of` */
    bool one_weight;            /* all elements count the same */
    unsigned classed;           /* moments are of symbols below this one */
    bool whole;                 /* and of all elements, not a sample */
    bool dense;                 /* a larger sample, which tells of all by itself */
    /* set by cwi_ctx_plan, and but for the tables' model by cwi_ctx_try */
    cwi_ctx_tables tables;
    double wasted;           /* bits that tables of its own would save, if they took none; with `given` */
    cwi_ctx_moments moments; /* by the contexts before tables were chosen: of no use with CWI_CTX_PLAIN */
} cwi_ctx_encoder;

size_t cwi_ctx_work_size(const cwi_ctx_shape *shape, unsigned threads);
/* Counts, chooses weights and tables, and returns about how many bytes it will take. */
size_t cwi_ctx_plan(cwi_ctx_encoder *e);
/* The same in two steps: the weights and moments of a plan, and right after it the rest, which may turn out to be
 * CWI_CTX_PLAIN. Of a tensor with elements. */
void cwi_ctx_count(cwi_ctx_encoder *e);
size_t cwi_ctx_finish(cwi_ctx_encoder *e);
/* Whether a plan's moments are of all elements, and no sample. */
bool cwi_ctx_counts_all(const cwi_ctx_encoder *e);
/* The weights of a plan, and the moments of a part of the tensor; what is planned afterwards may keep the weights. */
void cwi_ctx_try(cwi_ctx_encoder *e);
/* The bytes of those for weights and tables. */
size_t cwi_ctx_plan_tables(const cwi_ctx_encoder *e);
/* After cwi_ctx_plan. False when `capacity` is not enough; *size is what it takes all the same. */
bool cwi_ctx_encode(cwi_ctx_encoder *e, uint8_t *out, size_t capacity, size_t *size);

/* ---- decoding ---- */

/* How long the part says it is; valid once cwi_ctx_check() said so, of a tensor with elements. */
size_t cwi_ctx_size(const uint8_t *in);
/* Whether the part can be what `size` bytes at `in` begin with: for check(), cheap. */
bool cwi_ctx_check(const cwi_ctx_shape *shape, const uint8_t *in, size_t size);

typedef struct cwi_ctx_decoder {
    const cwi_kernels *kernels;
    cwi_ctx_shape shape;
    unsigned threads;
    const uint8_t *in;
    size_t size;                 /* of a bare part bytes that there are; out: that it takes */
    bool bare;                   /* the encoder's */
    uint8_t *work;               /* cwi_ctx_decode_work_size() bytes, 64-byte aligned */
    const uint8_t *support;      /* the encoder's */
    unsigned zero;               /* likewise its tables' */
    const cwi_ctx_tables *given; /* NULL, or the encoder's */
    uint8_t *symbols;            /* out */
    uint8_t *classes;            /* out, where not NULL: each symbol, plus its context's class times CWI_SYMBOLS */
    unsigned count;              /* out: all symbols are below it */
} cwi_ctx_decoder;

/* Enough with and without classes. */
size_t cwi_ctx_decode_work_size(const cwi_ctx_shape *shape, unsigned threads);
/* Takes exactly the `size` bytes, or of a bare part as many as that has, or is false. */
bool cwi_ctx_decode(cwi_ctx_decoder *d);

/* ---- so few samples that lanes would be empty (ctx_thin.c) ---- */

static inline bool cwi_ctx_is_thin(const cwi_ctx_shape *s)
{
    return s->beside == 1 && s->lanes <= CWI_CTX_THIN && s->elements > 0; /* one section, hence one block */
}
/* Of all elements, in their order; `work` has cwi_ctx_thin_size() bytes. */
void cwi_ctx_thin_contexts(const cwi_kernels *k, const cwi_ctx_shape *s, const cwi_ctx_tables *t,
                           const uint8_t *symbols, uint8_t *work, uint8_t *contexts);
size_t cwi_ctx_thin_size(const cwi_ctx_shape *s);
/* All of them. */
void cwi_ctx_thin_encode(const cwi_ctx_encoder *e, const uint8_t *contexts, cwi_ctx_lanes *lanes);
/* False when the stream ends too early; `work` has cwi_ctx_thin_decode_size() bytes. */
bool cwi_ctx_thin_decode(const cwi_ctx_decoder *d, const cwi_ctx_tables *t, uint8_t *work, cwi_ctx_lanes *lanes);
size_t cwi_ctx_thin_decode_size(const cwi_ctx_shape *s);

/* ---- weights (ctx_fit.c, ctx_weights.c) ---- */

/* Chooses mode and weights for e's symbols, or if `quick` nearly as good ones in a fraction of the time; `work` has
 * cwi_ctx_fit_size() bytes. True: `other`, of which mode, weights and classes are set, may be shorter. */
bool cwi_ctx_fit(const cwi_ctx_encoder *e, uint8_t *work, cwi_ctx_tables *t, cwi_ctx_tables *other);
size_t cwi_ctx_fit_size(const cwi_ctx_shape *s);
/* The bits that the weights take. */
size_t cwi_ctx_weights_bits(const cwi_ctx_tables *t, const cwi_ctx_shape *s);
struct cwi_bit_writer;
struct cwi_bit_reader;
void cwi_ctx_weights_put(const cwi_ctx_tables *t, const cwi_ctx_shape *s, struct cwi_bit_writer *w);
/* Of t->mode; false when they are no such. */
bool cwi_ctx_weights_get(struct cwi_bit_reader *r, const cwi_ctx_shape *s, cwi_ctx_tables *t);

/* ---- tables (ctx_model.c) ---- */

typedef uint32_t cwi_ctx_counts[CWI_CONTEXTS][CWI_SYMBOLS];

/* Merges contexts, fills in the model, and where one table is as good sets CWI_CTX_PLAIN; returns the bits that
 * symbols, weights and tables will take. */
double cwi_ctx_choose(const cwi_ctx_shape *shape, cwi_ctx_counts counts, bool may_be_coarse, cwi_ctx_tables *t);
/* The bits that symbols take with tables that know all of them. */
double cwi_ctx_cost(const cwi_ctx_tables *t, cwi_ctx_counts counts);
/* The same with tables of their own for these counts, without the bits of the tables. */
double cwi_ctx_own_cost(cwi_ctx_counts counts);
/* Mode, weights and tables; returns the end. At most cwi_ctx_tables_bound() bytes. */
uint8_t *cwi_ctx_tables_put(const cwi_ctx_tables *t, const cwi_ctx_shape *shape, uint8_t *out);
size_t cwi_ctx_tables_bound(const cwi_ctx_shape *shape);
/* Where they end, or NULL when they are no such. t->sets and t->of have room. */
const uint8_t *cwi_ctx_tables_get(const uint8_t *in, const uint8_t *end, const cwi_ctx_shape *shape, bool may_be_coarse,
                                  cwi_ctx_tables *t);

/* ---- rows (ctx_rows.c) ---- */

static inline size_t cwi_ctx_used(const cwi_ctx_shape *s, size_t section, size_t group)
{
    if (s->beside == 1)
        return CWI_MIN(s->lanes, s->samples - section * s->lanes);
    return (s->channels - group + s->groups - 1) / s->groups * s->lanes;
}
/* The number of the plane in a lane. */
static inline size_t cwi_ctx_plane(const cwi_ctx_shape *s, size_t section, size_t group, size_t lane)
{
    if (s->beside == 1)
        return (section * s->lanes + lane) * s->channels + group;
    const size_t channel = lane / s->lanes * s->groups + group, sample = section * s->lanes + lane % s->lanes;
    return sample * s->channels + channel;
}
/* Bytes of a row of a group. */
static inline size_t cwi_ctx_row(const cwi_ctx_shape *s)
{
    return s->width * CWI_LANES;
}
/* Rows of a group in a strip. */
static inline size_t cwi_ctx_strip(const cwi_ctx_shape *s)
{
    return CWI_MIN(s->height, CWI_MAX((size_t)CWI_CTX_STRIP / s->width, (size_t)1));
}
/* Bytes for the rows that are at hand at a time: of a whole section where channels may refer to others, else of a strip
 * and the row above it. */
size_t cwi_ctx_rows_size(const cwi_ctx_shape *s);
/* `count` rows of a group from row y on as [row][x][lane], and back. */
void cwi_ctx_gather(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *symbols, size_t section, size_t group,
                    size_t y, size_t count, uint8_t *rows);
void cwi_ctx_scatter(const cwi_kernels *k, const cwi_ctx_shape *s, const uint8_t *rows, size_t section, size_t group,
                     size_t y, size_t count, uint8_t *symbols);
/* The weights of a group's lanes. */
void cwi_ctx_mix_of(const cwi_ctx_tables *t, const cwi_ctx_shape *s, size_t group, cwi_ctx_mix *m);
/* Adds to the acc of `count` rows, of which the first is the plane's where `top`, what neighbours beyond its edges
 * stand for. */
void cwi_ctx_add_edges(const cwi_ctx_mix *m, unsigned zero, bool top, size_t count, size_t width, int16_t *acc);
/* What row y of a group, at `row`, is predicted from; `rows` are the section's where groups may refer. */
cwi_ctx_near cwi_ctx_near_of(const cwi_ctx_tables *t, const cwi_ctx_shape *s, const uint8_t *rows, const uint8_t *row,
                             size_t group, size_t y);

#endif
