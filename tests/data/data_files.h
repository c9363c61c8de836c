/* data_files.h - small data sets on disk for the tests: a temporary folder and files in it. */
#ifndef CWI_TEST_DATA_FILES_H
#define CWI_TEST_DATA_FILES_H

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "test.h"

static char test_folder[64];

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(test_folder, "/tmp/cutwire-data-XXXXXX");
    return mkdtemp(test_folder) ? 0 : -1;
}

static inline int remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return unlink(path);
    for (struct dirent *e; (e = readdir(dir));) {
        char below[1024];
        bool fits = snprintf(below, sizeof below, "%s/%s", path, e->d_name) < (int)sizeof below;
        if (fits && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove_tree(below);
    }
    closedir(dir);
    return rmdir(path);
}

static inline int remove_folder(void **state)
{
    (void)state;
    return remove_tree(test_folder);
}

/* test_folder/NAME/, with the folders on the way. */
static inline void make_subfolder(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    for (char *p = path + strlen(test_folder) + 1; *p; p++) {
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0777);
            *p = '/';
        }
    }
    mkdir(path, 0777);
}

/* "NAME:FOLDER" */
static inline const char *spec_of(const char *name)
{
    static char spec[128];
    snprintf(spec, sizeof spec, "%s:%s", name, test_folder);
    return spec;
}

static inline void write_file(const char *name, const void *data, size_t size, bool gzip)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    gzFile f = gzopen(path, gzip ? "wb" : "wbT");
    assert_non_null(f);
    if (size > 0)
        assert_int_equal(gzwrite(f, data, (unsigned)size), size);
    assert_int_equal(gzclose(f), Z_OK);
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Pixel p of image i is (i * 31 + p) % 251; labels i % 10. */
static inline void write_fashion(size_t images, size_t labels, bool gzip)
{
    size_t size = 16 + images * 784;
    uint8_t *b = calloc(size, 1);
    assert_non_null(b);
    put_be32(b, 0x803);
    put_be32(b + 4, (uint32_t)images);
    put_be32(b + 8, 28);
    put_be32(b + 12, 28);
    for (size_t i = 0; i < images * 784; i++)
        b[16 + i] = (uint8_t)((i / 784 * 31 + i % 784) % 251);
    write_file(gzip ? "train-images-idx3-ubyte.gz" : "train-images-idx3-ubyte", b, size, gzip);
    put_be32(b, 0x801);
    put_be32(b + 4, (uint32_t)labels);
    for (size_t i = 0; i < labels; i++)
        b[8 + i] = (uint8_t)(i % 10);
    write_file(gzip ? "train-labels-idx1-ubyte.gz" : "train-labels-idx1-ubyte", b, 8 + labels, gzip);
    free(b);
}

#endif
