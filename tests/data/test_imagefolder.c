/* test_imagefolder.c - folders of JPEG and PNG photos: decoded exactly, resized, cropped, and refused when damaged. */
#include <math.h>
#include <png.h>
#include <stdio.h>

#include <jpeglib.h>

#include "base/base.h"
#include "cutwire/data.h"
#include "data/resample.h"
#include "data_files.h"

/* ---- making images ---- */

static void write_image(const char *name, const void *data, size_t size)
{
    char path[512];
    cw_error err;
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    assert_ok_err(cw_file_write(path, data, size, &err), err);
}

static size_t make_png(const uint8_t *pixels, unsigned width, unsigned height, unsigned format, uint8_t *out,
                       size_t capacity)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = format};
    png_alloc_size_t size = capacity;
    assert_true(png_image_write_to_memory(&image, out, &size, 0, pixels, 0, NULL));
    return size;
}

/* Of `depth` bytes a pixel in this color space; chroma is not sampled down. */
static void write_jpeg(const char *name, const uint8_t *pixels, unsigned width, unsigned height, J_COLOR_SPACE space,
                       int depth)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *jpeg = NULL;
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &jpeg, &size);
    c.image_width = width;
    c.image_height = height;
    c.input_components = depth;
    c.in_color_space = space;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 100, TRUE);
    for (int i = 0; i < c.num_components; i++)
        c.comp_info[i].h_samp_factor = c.comp_info[i].v_samp_factor = 1;
    jpeg_start_compress(&c, TRUE);
    for (unsigned y = 0; y < height; y++) {
        uint8_t line[1024];
        JSAMPROW row = line;
        memcpy(line, pixels + (size_t)y * width * (size_t)depth, (size_t)width * (size_t)depth);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    write_image(name, jpeg, size);
    free(jpeg);
    jpeg_destroy_compress(&c);
}

static uint8_t color(size_t x, size_t y, size_t c)
{
    return (uint8_t)(x * 5 + y * 2 + c * 40);
}

/* 32x32 RGB whose pixels are color(); two classes in the training split, one image in the other. */
static void make_folders(void)
{
    static uint8_t rgb[32 * 32 * 3], png[16384];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = color(i / 3 % 32, i / 96, i % 3);
    make_subfolder("train/b");
    make_subfolder("train/ab");
    make_subfolder("val/b");
    size_t size = make_png(rgb, 32, 32, PNG_FORMAT_RGB, png, sizeof png);
    write_image("train/b/2.png", png, size);
    write_image("train/b/1.PNG", png, size);
    write_image("train/b/notes.txt", "not an image", 12);
    write_image("val/b/x.png", png, size);
    write_jpeg("train/ab/photo.JPEG", rgb, 32, 32, JCS_RGB, 3);
}

static cw_dataset *open_folder(const char *spec_name, cw_split split)
{
    cw_dataset *ds;
    cw_error err;
    assert_ok_err(cw_dataset_open(spec_of(spec_name), split, &ds, &err), err);
    return ds;
}

static cw_status load_one(const char *spec_name, size_t i, float *x, cw_error *err)
{
    cw_dataset *ds = open_folder(spec_name, CW_SPLIT_TRAIN);
    cw_loader *l;
    cw_batch b;
    uint32_t index = (uint32_t)i;
    assert_ok_err(cw_loader_create(ds, &index, 1, &(cw_loader_options){.batch = 1}, &l, err), *err);
    cw_status status = cw_loader_next(l, &b, err);
    size_t n;
    assert_ok(cw_shape_count(&cw_dataset_get_info(ds)->sample, &n));
    if (status == CW_OK)
        memcpy(x, b.x, n * sizeof *x);
    cw_loader_destroy(&l);
    cw_dataset_close(&ds);
    return status;
}

static float normalized(double value, size_t c)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    return (float)((value / 255 - mean[c]) / std[c]);
}

/* ---- tests ---- */

static void names_decide_the_order(void **state)
{
    (void)state;
    make_folders();
    cw_dataset *ds = open_folder("imagefolder", CW_SPLIT_TRAIN);
    const cw_dataset_info *info = cw_dataset_get_info(ds);
    cw_shape expected = cw_shape_of(3, (int64_t[]){3, 224, 224});
    assert_true(cw_shape_equal(&info->sample, &expected));
    assert_int_equal(info->count, 3);
    assert_int_equal(info->classes, 2);
    assert_string_equal(info->class_names[0], "ab");
    assert_int_equal(cw_dataset_label(ds, 0), 0);
    assert_int_equal(cw_dataset_label(ds, 1), 1);
    cw_dataset_close(&ds);
    ds = open_folder("imagefolder@64", CW_SPLIT_TEST); /* only class b has images there: still class 1 of 2 */
    assert_int_equal(cw_dataset_get_info(ds)->count, 1);
    assert_int_equal(cw_dataset_get_info(ds)->classes, 2);
    assert_int_equal(cw_dataset_label(ds, 0), 1);
    assert_int_equal(cw_dataset_get_info(ds)->sample.dim[2], 64);
    cw_dataset_close(&ds);
}

/* 32 is 28 * 256 / 224: the centre of the image, unchanged. */
static void without_resizing_pixels_are_exact(void **state)
{
    (void)state;
    make_folders();
    float x[3 * 28 * 28];
    cw_error err;
    for (size_t i = 0; i < 3; i++) { /* 0 is the JPEG */
        assert_ok_err(load_one("imagefolder@28", i, x, &err), err);
        for (size_t k = 0; k < CWI_COUNT(x); k++) {
            size_t c = k / 784, row = k / 28 % 28, col = k % 28;
            float expected = normalized(color(col + 2, row + 2, c), c);
            assert_true(fabsf(x[k] - expected) < (i == 0 ? 0.1f : 1e-5f));
        }
    }
}

static void every_kind_of_image_becomes_rgb(void **state)
{
    (void)state;
    static uint8_t pixels[40 * 48 * 4], png[16384];
    static float x[3 * 16 * 16];
    cw_error err;
    make_subfolder("train/k");
    const struct {
        const char *name;
        int png;
        J_COLOR_SPACE jpeg;
        uint8_t pixel[4];
        size_t depth;
        int expected[3];
    } kinds[] = {
        {"train/k/0.png", PNG_FORMAT_GRAY, 0, {77}, 1, {77, 77, 77}},
        {"train/k/1.png", PNG_FORMAT_RGBA, 0, {200, 100, 50, 255}, 4, {200, 100, 50}},
        {"train/k/2.png", PNG_FORMAT_RGBA, 0, {200, 100, 50, 0}, 4, {200, 100, 50}},
        {"train/k/3.jpg", 0, JCS_GRAYSCALE, {140}, 1, {140, 140, 140}},
        {"train/k/4.jpg", 0, JCS_CMYK, {255, 128, 0, 200}, 4, {200, 100, 0}},
    };
    for (size_t i = 0; i < CWI_COUNT(kinds); i++) {
        for (size_t k = 0; k < 40 * 48 * kinds[i].depth; k++)
            pixels[k] = kinds[i].pixel[k % kinds[i].depth];
        if (kinds[i].jpeg)
            write_jpeg(kinds[i].name, pixels, 40, 48, kinds[i].jpeg, (int)kinds[i].depth);
        else
            write_image(kinds[i].name, png, make_png(pixels, 40, 48, (unsigned)kinds[i].png, png, sizeof png));
        assert_ok_err(load_one("imagefolder@16", i, x, &err), err);
        for (size_t k = 0; k < CWI_COUNT(x); k++)
            assert_true(fabsf(x[k] - normalized(kinds[i].expected[k / 256], k / 256)) < 0.04f);
    }
}

/* A linear ramp stays one, whatever the scale, away from the borders; its slope follows the scale. (Between whole
 * steps the normalized filter is off by a fraction of a pixel, here as in PIL.) */
static void resizing_keeps_ramps(void **state)
{
    (void)state;
    enum { W = 97, H = 61, N = 24 };
    static uint8_t rgb[W * H * 3];
    static float out[3 * N * N];
    const float mean[3] = {0, 0, 0}, one[3] = {1, 1, 1};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i % 3 == 0 ? i / 3 % W * 2 : i % 3 == 1 ? i / 3 / W * 3 : 100);
    cwi_resampler r = {0};
    static const double steps[] = {0.3, 1, 1.7, 2.5};
    for (size_t s = 0; s < CWI_COUNT(steps); s++) {
        double step = steps[s];
        cwi_axis x = {.first = 8, .step = step, .low = 0, .high = W},
                 y = {.first = 0.2, .step = step, .low = 0, .high = H};
        assert_ok(cwi_resample(&r, rgb, W, &x, &y, N, false, mean, one, out, NULL));
        for (size_t i = 4; i + 4 < N; i++) {
            for (size_t k = 0; k < N; k++) {
                double at_x = 8 + ((double)k + 0.5) * step - 0.5, at_y = 0.2 + ((double)i + 0.5) * step - 0.5;
                assert_true(fabs(out[i * N + k] * 255 - 2 * at_x) < 0.4);
                assert_true(fabs(out[N * N + i * N + k] * 255 - 3 * at_y) < 0.4);
                assert_true(fabs(out[2 * N * N + i * N + k] * 255 - 100) < 1e-3);
            }
        }
        static float mirrored[3 * N * N];
        assert_ok(cwi_resample(&r, rgb, W, &x, &y, N, true, mean, one, mirrored, NULL));
        for (size_t i = 0; i < 3 * N; i++)
            for (size_t k = 0; k < N; k++)
                assert_true(mirrored[i * N + k] == out[i * N + N - 1 - k]);
    }
    cwi_resampler_free(&r);
}

static uint32_t digest(const cw_dataset *ds, int threads, uint64_t epoch)
{
    cw_loader *l;
    cw_error err;
    cw_batch b;
    cw_loader_options o = {
        .batch = 2, .shuffle = true, .flip = true, .resized_crop = true, .seed = 4, .threads = threads};
    assert_ok_err(cw_loader_create(ds, NULL, 0, &o, &l, &err), err);
    assert_ok(cw_loader_seek(l, epoch, 0));
    uint32_t crc = 0;
    while (cw_loader_next(l, &b, &err) == CW_OK) {
        for (size_t i = 0; i < b.n * 3 * 24 * 24; i++) /* a part of the ramps: no value beyond theirs */
            assert_true(b.x[i] > -2.2f && b.x[i] < 2.7f);
        crc = cwi_crc32c(crc, b.x, b.n * 3 * 24 * 24 * sizeof *b.x);
    }
    cw_loader_destroy(&l);
    return crc;
}

static void random_parts_follow_the_seed(void **state)
{
    (void)state;
    make_folders();
    cw_dataset *ds = open_folder("imagefolder@24", CW_SPLIT_TRAIN);
    uint32_t first = digest(ds, 0, 0), second = digest(ds, 0, 1);
    assert_int_not_equal(first, second);
    for (int threads = 1; threads < 4; threads++) {
        assert_int_equal(digest(ds, threads, 0), first);
        assert_int_equal(digest(ds, threads, 1), second);
    }
    cw_loader *l;
    cw_error err;
    assert_status(cw_loader_create(ds, NULL, 0, &(cw_loader_options){.batch = 1, .crop_pad = 4}, &l, &err),
                  CW_ERR_INVALID);
    assert_non_null(strstr(err.message, "padded crops"));
    cw_dataset_close(&ds);
}

/* ---- which part ---- */

enum { PART_SIZE = 24 };

typedef struct part {
    double left, top, width, height; /* pixels of the photo */
} part;

/* The only photo, whose red is x and whose green is y. */
static cw_dataset *open_ramps(unsigned width, unsigned height)
{
    static uint8_t rgb[256 * 256 * 3], png[4 * 65536];
    assert_true(width <= 256 && height <= 256);
    for (size_t i = 0; i < 3 * (size_t)width * height; i++)
        rgb[i] = (uint8_t)(i % 3 == 0 ? i / 3 % width : i % 3 == 1 ? i / 3 / width : 0);
    make_subfolder("train/ramps");
    write_image("train/ramps/1.png", png, make_png(rgb, width, height, PNG_FORMAT_RGB, png, sizeof png));
    return open_folder("imagefolder@24", CW_SPLIT_TRAIN);
}

/* Where a ramp of slope 1 begins and how long it is, from its values away from the borders, `stride` apart. */
static void measure(const float *x, size_t stride, size_t c, double *first, double *length)
{
    enum { A = 2, B = PART_SIZE - 3 };
    const double scale = normalized(1, c) - normalized(0, c);
    const double a = (x[A * stride] - normalized(0, c)) / scale, b = (x[B * stride] - normalized(0, c)) / scale;
    const double step = (b - a) / (B - A);
    *first = a + 0.5 - (A + 0.5) * step; /* a pixel's value is that of its middle */
    *length = step * PART_SIZE;
}

static void random_parts(const cw_dataset *ds, part *parts, size_t count)
{
    cw_loader *l;
    cw_error err;
    cw_batch b;
    const cw_loader_options o = {.batch = 1, .resized_crop = true, .seed = 11};
    assert_ok_err(cw_loader_create(ds, NULL, 0, &o, &l, &err), err);
    for (size_t i = 0; i < count; i++) {
        assert_ok(cw_loader_seek(l, i, 0));
        assert_ok_err(cw_loader_next(l, &b, &err), err);
        measure(b.x, 1, 0, &parts[i].left, &parts[i].width);
        measure(b.x + PART_SIZE * PART_SIZE, PART_SIZE, 1, &parts[i].top, &parts[i].height);
    }
    cw_loader_destroy(&l);
}

/* What is drawn is rounded to pixels, and measured to one more. A part that fits nowhere is drawn again: of a square,
 * fewer of the large ones are left. */
static void random_parts_have_the_areas_aspects_and_places_that_are_asked_for(void **state)
{
    (void)state;
    enum { N = 300, W = 200, H = 200 };
    static part parts[N];
    const double off = 1.5;
    size_t share[4] = {0}, place[4] = {0}, small = 0, flat = 0;
    double flattest = 1, tallest = 1;
    cw_dataset *ds = open_ramps(W, H);
    random_parts(ds, parts, N);
    for (size_t i = 0; i < N; i++) {
        const part *p = &parts[i];
        const double w = p->width, h = p->height, area = w * h / (W * H);
        assert_true(p->left > -off && p->top > -off && p->left + w < W + off && p->top + h < H + off);
        assert_true((w + off) * (h + off) > 0.08 * W * H);
        assert_true((w + off) / (h - off) > 3.0 / 4 && (w - off) / (h + off) < 4.0 / 3);
        share[CWI_MIN((size_t)(fmax(area - 0.08, 0) / 0.23), 3)]++;
        flat += w > h;
        flattest = fmax(flattest, w / h);
        tallest = fmin(tallest, w / h);
        if (area < 0.5) { /* with room around it */
            place[(p->left > (W - w) / 2) + 2 * (p->top > (H - h) / 2)]++;
            small++;
        }
    }
    for (size_t k = 0; k < 3; k++) /* 0.29 of them each, and 0.12 in the last quarter */
        assert_true(share[k] > 0.2 * N && share[k] < 0.4 * N);
    assert_true(share[3] > 0.05 * N && share[3] < 0.2 * N);
    assert_true(flat > 0.4 * N && flat < 0.6 * N && flattest > 1.25 && tallest < 0.8);
    for (size_t k = 0; k < 4; k++)
        assert_true(place[k] > 0.15 * (double)small && place[k] < 0.35 * (double)small);
    cw_dataset_close(&ds);
}

/* Nothing of 8% of the area fits: always the largest part in the middle that is not longer than 4/3 of its width. */
static void elongated_photos_are_cropped_in_the_centre(void **state)
{
    (void)state;
    static part parts[20];
    for (int tall = 0; tall < 2; tall++) {
        cw_dataset *ds = tall ? open_ramps(12, 240) : open_ramps(240, 12);
        random_parts(ds, parts, CWI_COUNT(parts));
        for (size_t i = 0; i < CWI_COUNT(parts); i++) {
            const part *p = &parts[i];
            const double along[2] = {tall ? p->top : p->left, tall ? p->height : p->width};
            const double across[2] = {tall ? p->left : p->top, tall ? p->width : p->height};
            assert_true(fabs(along[0] - 112) < 0.5 && fabs(along[1] - 16) < 0.5);
            assert_true(fabs(across[0]) < 0.5 && fabs(across[1] - 12) < 0.5);
        }
        cw_dataset_close(&ds);
    }
}

static void expect_failure(const void *bytes, size_t size, cw_status status, const char *says)
{
    static float x[3 * 224 * 224];
    cw_error err = {.message = ""};
    write_image("train/b/2.png", bytes, size);
    cw_status got = load_one("imagefolder", 2, x, &err);
    if (got != status || !strstr(err.message, says) || !strstr(err.message, "train/b/2.png"))
        fail_msg("expected %s, ...%s...; got %s, %s", cw_status_name(status), says, cw_status_name(got), err.message);
}

static void damaged_images_are_named(void **state)
{
    (void)state;
    make_folders();
    char path[512];
    uint8_t *png, *jpeg;
    size_t png_size, jpeg_size;
    snprintf(path, sizeof path, "%s/val/b/x.png", test_folder);
    assert_ok(cw_file_read(path, &png, &png_size, NULL));
    snprintf(path, sizeof path, "%s/train/ab/photo.JPEG", test_folder);
    assert_ok(cw_file_read(path, &jpeg, &jpeg_size, NULL));
    expect_failure("GIF89a", 6, CW_ERR_MAGIC, "neither a JPEG nor a PNG, but a GIF");
    expect_failure("", 0, CW_ERR_MAGIC, "neither");
    expect_failure(png, png_size / 2, CW_ERR_CORRUPT, "PNG");
    expect_failure(png, 20, CW_ERR_CORRUPT, "PNG header");
    expect_failure(jpeg, jpeg_size / 2, CW_ERR_TRUNCATED, "too early");
    expect_failure(jpeg, 20, CW_ERR_CORRUPT, "JPEG header");
    for (size_t i = 0; i + 9 < jpeg_size; i++) { /* a frame header that claims 65500 x 65500 pixels */
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0) {
            memcpy(jpeg + i + 5, "\xff\xdc\xff\xdc", 4);
            break;
        }
    }
    expect_failure(jpeg, jpeg_size, CW_ERR_UNSUPPORTED, "65500x65500");
    cw_bytes_free(png);
    cw_bytes_free(jpeg);
}

static void open_fails(const char *name, cw_split split, cw_status status, const char *says)
{
    cw_dataset *ds;
    cw_error err = {.message = ""};
    cw_status got = cw_dataset_open(spec_of(name), split, &ds, &err);
    if (got != status || !strstr(err.message, says))
        fail_msg("expected %s, ...%s...; got %s, %s", cw_status_name(status), says, cw_status_name(got), err.message);
}

static void wrong_folders_are_refused(void **state)
{
    (void)state;
    open_fails("imagefolder", CW_SPLIT_TRAIN, CW_ERR_NOT_FOUND, "train/CLASS");
    make_subfolder("train");
    open_fails("imagefolder", CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "no folders");
    make_subfolder("train/a");
    open_fails("imagefolder", CW_SPLIT_TRAIN, CW_ERR_CORRUPT, "no images");
    make_subfolder("train/b");
    open_fails("imagefolder", CW_SPLIT_TRAIN, CW_ERR_CORRUPT,
               "no images (.jpg, .jpeg, .jpe, .jfif or .png) of the "
               "classes \"a\", \"b\"");
    write_image("train/a/1.webp", "x", 1);
    write_image("train/b/1.png", "x", 1);
    open_fails("imagefolder", CW_SPLIT_TRAIN, CW_ERR_CORRUPT,
               "class \"a\" (1 of formats that are not read, as a/1.webp)");
    make_subfolder("val/c");
    open_fails("imagefolder", CW_SPLIT_TEST, CW_ERR_CORRUPT, "\"c\" that the training split lacks");
    open_fails("imagefolder@", CW_SPLIT_TRAIN, CW_ERR_SPEC, "after '@'");
    open_fails("imagefolder@12x", CW_SPLIT_TRAIN, CW_ERR_SPEC, "after '@'");
    open_fails("imagefolder@99999", CW_SPLIT_TRAIN, CW_ERR_SPEC, "after '@'");
    open_fails("cifar-10@64", CW_SPLIT_TRAIN, CW_ERR_SPEC, "one size only");
}

/* The split that was opened last says so; its photos are counted. */
static const cw_dataset_info *open_info(const char *name, cw_split split, cw_dataset **ds)
{
    cw_dataset_close(ds);
    *ds = open_folder(name, split);
    return cw_dataset_get_info(*ds);
}

static void photos_lie_at_any_depth(void **state)
{
    (void)state;
    static const uint8_t grey[16] = {0};
    static uint8_t png[256];
    static const char *const names[] = {"train/a/x/1.png", "train/a/x/y/2.jpe", "train/a/3.JFIF",
                                        "train/b/z/4.Png", "val/b/5.jpeg",      "val/a/6.jpg"};
    size_t size = make_png(grey, 4, 4, PNG_FORMAT_GRAY, png, sizeof png);
    make_subfolder("train/a/x/y");
    make_subfolder("train/b/z");
    make_subfolder("val/b");
    make_subfolder("val/a");
    for (size_t i = 0; i < CWI_COUNT(names); i++)
        write_image(names[i], png, size); /* what a file is, its bytes say */
    cw_dataset *ds = NULL;
    const cw_dataset_info *info = open_info("imagefolder", CW_SPLIT_TRAIN, &ds);
    assert_int_equal(info->count, 4);
    assert_int_equal(info->skipped, 0);
    assert_null(info->note);
    assert_int_equal(cw_dataset_label(ds, 2), 0);
    assert_int_equal(cw_dataset_label(ds, 3), 1);
    assert_int_equal(open_info("imagefolder", CW_SPLIT_TEST, &ds)->count, 2);
    assert_int_equal(cw_dataset_label(ds, 0), 0);
    cw_dataset_close(&ds);
}

static void link_to(const char *target, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    assert_int_equal(symlink(target, path), 0);
}

static void what_is_skipped_is_counted_and_said(void **state)
{
    (void)state;
    make_folders();
    make_subfolder("train/.git");
    make_subfolder("train/b/more");
    static const char *const names[] = {"train/b/a.webp",  "train/b/more/b.BMP", "train/b/._2.png",
                                        "train/loose.jpg", "train/b/Thumbs.db",  "train/b/name\nof \xe9 lines.txt"};
    for (size_t i = 0; i < CWI_COUNT(names); i++)
        write_image(names[i], "x", 1);
    link_to("..", "train/b/more/around");
    link_to("nowhere", "train/b/gone.png");
    cw_dataset *ds = NULL;
    const cw_dataset_info *info = open_info("imagefolder@28", CW_SPLIT_TRAIN, &ds);
    assert_int_equal(info->count, 3);
    assert_int_equal(info->skipped, 10);
    static const char *const said[] = {"train: 10 files skipped: ",
                                       "2 of formats that are not read (b/",
                                       "2 hidden (",
                                       "1 in no class folder (loose.jpg)",
                                       "(b/more/around)",
                                       "(b/gone.png)",
                                       "3 no picture by its name (b/"};
    for (size_t i = 0; i < CWI_COUNT(said); i++)
        if (!strstr(info->note, said[i]))
            fail_msg("'%s' is not in: %s", said[i], info->note);
    assert_null(strchr(info->note, '\n'));
    assert_true(cwi_utf8_valid(info->note, strlen(info->note)));
    info = open_info("imagefolder@28", CW_SPLIT_TEST, &ds);
    assert_int_equal(info->skipped, 0);
    assert_non_null(strstr(info->note, "val holds no images of \"ab\""));
    cw_dataset_close(&ds);
}

static void the_other_split_has_several_names(void **state)
{
    (void)state;
    static const uint8_t grey[16] = {0};
    static uint8_t png[256];
    size_t size = make_png(grey, 4, 4, PNG_FORMAT_GRAY, png, sizeof png);
    make_subfolder("train/a");
    write_image("train/a/1.png", png, size);
    open_fails("imagefolder", CW_SPLIT_TEST, CW_ERR_NOT_FOUND, "has train/ but no val/");
    static const char *const names[] = {"test", "validation", "valid", "val"}; /* the last one there is taken */
    for (size_t i = 0; i < CWI_COUNT(names); i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/a", names[i]);
        make_subfolder(path);
        for (size_t k = 0; k <= i; k++) {
            snprintf(path, sizeof path, "%s/a/%zu.png", names[i], k);
            write_image(path, png, size);
        }
        cw_dataset *ds = open_folder("imagefolder", CW_SPLIT_TEST);
        assert_int_equal(cw_dataset_get_info(ds)->count, i + 1);
        cw_dataset_close(&ds);
    }
}

static void real_photos_load(void **state)
{
    (void)state;
    cw_dataset *ds;
    cw_error err;
    if (cw_dataset_open("imagenette", CW_SPLIT_TEST, &ds, &err) == CW_ERR_NOT_FOUND) {
        print_message("SKIP: %s\n", err.message);
        skip();
    }
    assert_int_equal(cw_dataset_get_info(ds)->count, 500);
    assert_int_equal(cw_dataset_get_info(ds)->classes, 10);
    cw_loader *l;
    cw_batch b;
    cw_loader_options o = {.batch = 50, .flip = true, .resized_crop = true, .threads = 2};
    assert_ok_err(cw_loader_create(ds, NULL, 0, &o, &l, &err), err);
    double sum = 0, squares = 0, n = 500.0 * 3 * 224 * 224;
    size_t seen = 0, of_class[10] = {0};
    cw_status status;
    while ((status = cw_loader_next(l, &b, &err)) == CW_OK) {
        for (size_t i = 0; i < b.n * 3 * 224 * 224; i++) {
            sum += b.x[i];
            squares += (double)b.x[i] * b.x[i];
        }
        for (size_t i = 0; i < b.n; i++, seen++)
            of_class[b.labels[i]]++;
    }
    assert_int_equal(status, CW_END);
    assert_int_equal(seen, 500);
    for (int k = 0; k < 10; k++)
        assert_int_equal(of_class[k], 50);
    assert_true(fabs(sum / n) < 0.3);
    assert_true(squares / n > 0.8 && squares / n < 2);
    cw_loader_destroy(&l);
    cw_dataset_close(&ds);
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(names_decide_the_order),
        test(without_resizing_pixels_are_exact),
        test(every_kind_of_image_becomes_rgb),
        cmocka_unit_test(resizing_keeps_ramps),
        test(random_parts_follow_the_seed),
        test(random_parts_have_the_areas_aspects_and_places_that_are_asked_for),
        test(elongated_photos_are_cropped_in_the_centre),
        test(damaged_images_are_named),
        test(wrong_folders_are_refused),
        test(photos_lie_at_any_depth),
        test(what_is_skipped_is_counted_and_said),
        test(the_other_split_has_several_names),
        cmocka_unit_test(real_photos_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
