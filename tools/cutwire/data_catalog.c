/* data_catalog.c - the table itself. Only sets whose checksums are published are in it.
 *
 * "rebuilt" editions hold the same images or sentences as the official ones in another order or layout.
 */
#include <string.h>

#include "data_catalog.h"

#define TORONTO "https://www.cs.toronto.edu/~kriz/"
#define ZALANDO "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
#define ALPS    "https://raw.githubusercontent.com/forest-snow/alps/3c7ef2c98249fc975a897b27f275695f97d5b7a9/data/SST-2/"
#define CHARCNN                                                                                                        \
    "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/555590db4219b1243abb1918effd6a7425a2d75f/data/"         \
    "ag_news_csv/"
#define UCI "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/"

#define FASHION_TRAIN_IMAGES "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
#define FASHION_TRAIN_LABELS "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
#define FASHION_TEST_IMAGES  "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
#define FASHION_TEST_LABELS  "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
#define SST_TRAIN            "sha256:920e317b2c52e12cd22db1da2c6708312bd7dc4f3712b9bbf1b50ee6c2c792ba"
#define SST_DEV              "sha256:92353770071a2a889f75d000a38a9e541ea8f0a5499e50f040b17917a5cbf66f"
#define SST_TEST             "sha256:54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0"
#define NEWS_TRAIN           "sha256:76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e"
#define NEWS_TEST            "sha256:521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"
#define ADULT_TRAIN          "sha256:5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"
#define ADULT_TEST           "sha256:a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"

static const catalog_set sets[] = {
    {
        .name = "fashion-mnist",
        .folder = "fashion-mnist",
        .downloads = {{ZALANDO "train-images-idx3-ubyte.gz", FASHION_TRAIN_IMAGES, false},
                      {ZALANDO "train-labels-idx1-ubyte.gz", FASHION_TRAIN_LABELS, false},
                      {ZALANDO "t10k-images-idx3-ubyte.gz", FASHION_TEST_IMAGES, false},
                      {ZALANDO "t10k-labels-idx1-ubyte.gz", FASHION_TEST_LABELS, false}},
        .editions = {{"official",
                      {{"train-images-idx3-ubyte.gz", FASHION_TRAIN_IMAGES},
                       {"train-labels-idx1-ubyte.gz", FASHION_TRAIN_LABELS},
                       {"t10k-images-idx3-ubyte.gz", FASHION_TEST_IMAGES},
                       {"t10k-labels-idx1-ubyte.gz", FASHION_TEST_LABELS}}},
                     {"Debian",
                      {{"train-images-idx3-ubyte.gz",
                        "sha256:b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"},
                       {"train-labels-idx1-ubyte.gz",
                        "sha256:0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"},
                       {"t10k-images-idx3-ubyte.gz",
                        "sha256:cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"},
                       {"t10k-labels-idx1-ubyte.gz",
                        "sha256:8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"}}}},
    },
    {
        .name = "cifar-10",
        .folder = "cifar-10-batches-bin",
        .downloads = {{TORONTO "cifar-10-binary.tar.gz",
                       "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", true}},
        .editions = {{"official",
                      {{"data_batch_1.bin", "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"},
                       {"data_batch_2.bin", "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"},
                       {"data_batch_3.bin", "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"},
                       {"data_batch_4.bin", "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"},
                       {"data_batch_5.bin", "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"},
                       {"test_batch.bin", "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"}}},
                     {"rebuilt",
                      {{"data_batch_1.bin", "sha256:8ab8606b2c3ef4d1aef64cb3f79c0ad80462e90f78be69b78d3e4bb536cbb5b8"},
                       {"data_batch_2.bin", "sha256:d7bf8f0de8a8935dd78c68d3cc33a13d3d091a50d3ee20634cd129d8777bede3"},
                       {"data_batch_3.bin", "sha256:df9bad5a71d30ecafb908c0a1857d99294108938a26bb5b75cded3dc04fdc001"},
                       {"data_batch_4.bin", "sha256:fac805380d9196ee66aebcb9017c37b6b5f68a07dfe980d93fa134d2b221cafb"},
                       {"data_batch_5.bin", "sha256:5371edfac39dcfcf90241385ef35d759cd4bc67d31695e0e153e2dd854945c07"},
                       {"test_batch.bin", "sha256:1f74fc062e517ee2358a16aae80401d9da3828fc6e47ec4afde66c9bd6e4c041"}}}},
    },
    {
        .name = "cifar-100",
        .folder = "cifar-100-binary",
        .downloads = {{TORONTO "cifar-100-binary.tar.gz",
                       "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", true}},
        .editions = {{"official",
                      {{"train.bin", "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"},
                       {"test.bin", "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"}}},
                     {"rebuilt",
                      {{"train.bin", "sha256:2c47ce9922ff241ebde73089b72ad0273e4b07e438bebc4a5cd23a2c4f8e7f7e"},
                       {"test.bin", "sha256:e685f15745c31f2e12cef79be67f3d48cf67acf68b63b8eb9a5b824b6f17ef2b"}}}},
    },
    {
        .name = "imagenette",
        .folder = "imagenette2-320",
        .downloads = {{"https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
                       "md5:3df6f0d01a2c9592104656642f5e78a3", true}},
    },
    {
        .name = "sst-2",
        .folder = "sst-2",
        .copy = true,
        .downloads = {{ALPS "train.tsv", SST_TRAIN, false},
                      {ALPS "dev.tsv", SST_DEV, false},
                      {ALPS "test.tsv", SST_TEST, false}},
        .editions = {{"third party's copy", {{"train.tsv", SST_TRAIN}, {"dev.tsv", SST_DEV}, {"test.tsv", SST_TEST}}}},
    },
    {
        .name = "ag-news",
        .folder = "ag-news",
        .copy = true,
        .downloads = {{CHARCNN "train.csv", NEWS_TRAIN, false}, {CHARCNN "test.csv", NEWS_TEST, false}},
        .editions = {{"third party's copy", {{"train.csv", NEWS_TRAIN}, {"test.csv", NEWS_TEST}}},
                     {"10,000 of the training rows, descriptions only",
                      {{"train.tsv", "sha256:8cd1cf8135a9ed0f9763ebec95fd2bea8d41cceb8eee966f19daf1758ed6bd99"},
                       {"test.tsv", "sha256:2c4b98916caf47a8d11cab0d37a6c2fd347f8608a6d612908bb6d447a07bc627"}}}},
    },
    {
        .name = "adult",
        .folder = "adult",
        .downloads = {{UCI "adult.data", ADULT_TRAIN, false}, {UCI "adult.test", ADULT_TEST, false}},
        .editions = {{"official", {{"adult.data", ADULT_TRAIN}, {"adult.test", ADULT_TEST}}},
                     {"rebuilt",
                      {{"train.csv", "sha256:3b8a6abd697a6623ef2ccbffc3e2802e167e7fdaa853003d3bd557b0ce7f5d2a"},
                       {"test.csv", "sha256:eb6e9f02496bed4137b1a069b8af64b90eb534ba46143948667034dddef9abd9"}}}},
    },
};

const catalog_set *catalog_at(size_t i)
{
    return i < sizeof sets / sizeof sets[0] ? &sets[i] : NULL;
}

const catalog_set *catalog_find(const char *name)
{
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if (strcmp(sets[i].name, name) == 0)
            return &sets[i];
    return NULL;
}
