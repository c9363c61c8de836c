/* test_file.c - whole-file reading, and writing that never leaves half a file behind. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cutwire/io.h"
#include "test.h"

static char folder[] = "/tmp/cutwire-file-XXXXXX";
static char path[64], tmp[72];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    unlink(tmp);
    return rmdir(folder);
}

static void assert_holds(const char *text)
{
    uint8_t *data;
    size_t size;
    cw_error err;
    assert_ok_err(cw_file_read(path, &data, &size, &err), err);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(data, text, size);
    cw_bytes_free(data);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    cw_error err;
    assert_ok_err(cw_file_write(path, "hello", 5, &err), err);
    assert_holds("hello");
    assert_ok_err(cw_file_write(path, "", 0, &err), err);
    assert_holds("");
    assert_int_not_equal(access(tmp, F_OK), 0);
}

static void a_relative_name_works(void **state)
{
    (void)state;
    cw_error err;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    cw_status status = cw_file_write("file", "relative", 8, &err);
    assert_int_equal(chdir(before), 0);
    assert_ok_err(status, err);
    assert_holds("relative");
}

static void a_pipe_is_read_to_its_end(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "through a pipe", 14), 14);
    close(fd[1]);
    char name[64];
    snprintf(name, sizeof name, "/dev/fd/%d", fd[0]);
    uint8_t *data;
    size_t size;
    cw_error err;
    assert_ok_err(cw_file_read(name, &data, &size, &err), err);
    assert_int_equal(size, 14);
    cw_bytes_free(data);
    close(fd[0]);
}

static void missing_files_and_folders_are_named(void **state)
{
    (void)state;
    uint8_t *data;
    size_t size;
    cw_error err;
    assert_status(cw_file_read("/nonexistent/x", &data, &size, &err), CW_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/x"));
    assert_null(data);
    assert_status(cw_file_read(folder, &data, &size, &err), CW_ERR_IO);
    assert_non_null(strstr(err.message, "directory"));
    assert_status(cw_file_write("/nonexistent/x", "a", 1, &err), CW_ERR_IO);
    assert_non_null(strstr(err.message, "/nonexistent/x"));
}

/* A file-size limit fails a write half way as a full disk does. */
static void a_failed_write_keeps_the_old_file(void **state)
{
    (void)state;
    cw_error err;
    enum { BIG = 1 << 20 };
    static char big[BIG];
    assert_ok_err(cw_file_write(path, "old", 3, &err), err);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    cw_status status = cw_file_write(path, big, BIG, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, CW_ERR_IO);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "too large"));
    assert_int_not_equal(access(tmp, F_OK), 0);
    assert_holds("old");
}

static void devices_stay_devices(void **state)
{
    (void)state;
    cw_error err;
    struct stat s;
    unlink(path); /* an earlier test's */
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_ok_err(cw_file_write(path, "gone", 4, &err), err);
    assert_int_equal(lstat(path, &s), 0);
    assert_true(S_ISLNK(s.st_mode));
    assert_int_equal(stat("/dev/null", &s), 0);
    assert_true(S_ISCHR(s.st_mode));
    assert_int_equal(unlink(path), 0);
}

static void a_full_disk_is_reported(void **state)
{
    (void)state;
    /* PATH.tmp is a link to a device that is always full. */
    cw_error err;
    assert_ok_err(cw_file_write(path, "old", 3, &err), err);
    if (access("/dev/full", W_OK) != 0) {
        print_message("SKIP: no /dev/full here\n");
        skip();
    }
    assert_int_equal(symlink("/dev/full", tmp), 0);
    cw_status status = cw_file_write(path, "new", 3, &err);
    assert_int_equal(status, CW_ERR_IO);
    assert_non_null(strstr(err.message, "No space left"));
    assert_holds("old");
    assert_int_not_equal(access(tmp, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),   cmocka_unit_test(a_relative_name_works),
        cmocka_unit_test(a_pipe_is_read_to_its_end), cmocka_unit_test(missing_files_and_folders_are_named),
        cmocka_unit_test(devices_stay_devices),      cmocka_unit_test(a_failed_write_keeps_the_old_file),
        cmocka_unit_test(a_full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
