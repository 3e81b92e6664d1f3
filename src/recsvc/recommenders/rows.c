/* Candidates of a row of a table: one call of `Rows` in `rows.py`, which is the reference.

   Nothing is checked here: a table was, when it was loaded, and rows are asked for by numbers
   that were found in it. */

#include <stdint.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

/* Some lists of a table, end to end, as `table.py` has them. */
typedef struct {
    const int64_t *ids;     /* [n] of tracks */
    const int64_t *offsets; /* [rows + 1] */
    const int32_t *indices; /* of tracks */
    const float *weights;
} Rows;

enum { SIEVE = 512, SEVERAL = 255 };

/* Write the ids of a row `[k]`, its weights and their sum, 8 bytes each, the sieve of
   `candidates.py`, and the running sums of the weights to `to`; return k. There are fewer than
   2^31 rows, as there are tracks. */
EXPORTED int candidates(const Rows *rows, int row, void *to)
{
    int64_t start = rows->offsets[row], count = rows->offsets[row + 1] - start;
    const int32_t *indices = rows->indices + start;
    const float *given = rows->weights + start;
    int64_t *ids = to;
    double *weights = (double *)to + count, sum = 0.0;
    uint8_t *sieve = (uint8_t *)(weights + count + 1);
    double *sums = (double *)(sieve + SIEVE);
    memset(sieve, 0, SIEVE);
    for (int64_t i = 0; i < count; i++) {
        int64_t id = ids[i] = rows->ids[indices[i]];
        uint8_t *place = sieve + 2 * (id & 255) + (id >> 8 & 1), mark = 1 + (id >> 9 & 127);
        *place = *place && *place != mark ? SEVERAL : mark;
    }
    for (int64_t i = 0; i < count; i++) {
        weights[i] = given[i];
        sums[i] = sum += weights[i];
    }
    weights[count] = sum;
    return (int)count;
}
