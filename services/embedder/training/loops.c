/* The loops of training that PyTorch has no fast ones for on a processor. Compiled when a run starts,
   once for each type of the images; loops.py has their arguments.

   Images are channels-last: pixels x channels. Sums are built in float32 over a few pixels, those of
   a thread in float64; each thread has a row of the result to itself, which makes them repeatable. */

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef BFLOAT16
typedef uint16_t number;

static inline float wide(number value)
{
    union { uint32_t bits; float number; } as = {(uint32_t)value << 16};
    return as.number;
}

/* To the nearest, halfway to even. */
static inline number narrow(float value)
{
    union { float number; uint32_t bits; } as = {value};
    uint32_t rounded = (as.bits + 0x7fff + (as.bits >> 16 & 1)) >> 16;
    return value == value ? rounded : 0x7fc0;
}
#else
typedef float number;
static inline float wide(number value) { return value; }
static inline number narrow(float value) { return value; }
#endif

enum { BLOCK = 64 }; /* pixels that are summed in float32 */

static inline float relu6(float value)
{
    value = value < 0 ? 0 : value;
    return value > 6 ? 6 : value;
}

static inline float passed(float gradient, float scaled)
{
    return scaled > 0 && scaled < 6 ? gradient : 0;
}

/* totals: threads x 2 x channels, zero. Of each channel the sum, and the sum of squares. */
void sums(const number *restrict images, long pixels, long channels, long threads, double *totals)
{
#pragma omp parallel num_threads(threads)
    {
        double *restrict total = totals + omp_get_thread_num() * 2 * channels;
        float *restrict sum = malloc(2 * channels * sizeof(float));
        float *restrict squares = sum + channels;
#pragma omp for schedule(static)
        for (long start = 0; start < pixels; start += BLOCK) {
            long end = start + BLOCK < pixels ? start + BLOCK : pixels;
            memset(sum, 0, 2 * channels * sizeof(float));
            for (long pixel = start; pixel < end; pixel++) {
                const number *restrict image = images + pixel * channels;
                for (long c = 0; c < channels; c++) {
                    float value = wide(image[c]);
                    sum[c] += value;
                    squares[c] += value * value;
                }
            }
            for (long c = 0; c < 2 * channels; c++)
                total[c] += sum[c];
        }
        free(sum);
    }
}

/* output = relu6(images scale + shift) */
void scaled(const number *restrict images, long pixels, long channels, long threads,
            const float *restrict scale, const float *restrict shift, number *restrict output)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long pixel = 0; pixel < pixels; pixel++) {
        const number *restrict image = images + pixel * channels;
        number *restrict out = output + pixel * channels;
        for (long c = 0; c < channels; c++)
            out[c] = narrow(relu6(wide(image[c]) * scale[c] + shift[c]));
    }
}

/* totals: threads x 2 x channels, zero. With g the gradient where ReLU6 lets it through: of each
   channel the sum of g, and of g times the image. */
void gradient_sums(const number *restrict images, long pixels, long channels, long threads,
                   const float *restrict scale, const float *restrict shift,
                   const number *restrict gradients, double *totals)
{
#pragma omp parallel num_threads(threads)
    {
        double *restrict total = totals + omp_get_thread_num() * 2 * channels;
        float *restrict sum = malloc(2 * channels * sizeof(float));
        float *restrict products = sum + channels;
#pragma omp for schedule(static)
        for (long start = 0; start < pixels; start += BLOCK) {
            long end = start + BLOCK < pixels ? start + BLOCK : pixels;
            memset(sum, 0, 2 * channels * sizeof(float));
            for (long pixel = start; pixel < end; pixel++) {
                const number *restrict image = images + pixel * channels;
                const number *restrict gradient = gradients + pixel * channels;
                for (long c = 0; c < channels; c++) {
                    float value = wide(image[c]);
                    float g = passed(wide(gradient[c]), value * scale[c] + shift[c]);
                    sum[c] += g;
                    products[c] += g * value;
                }
            }
            for (long c = 0; c < 2 * channels; c++)
                total[c] += sum[c];
        }
        free(sum);
    }
}

/* output = g scale + images factor + offset */
void scaled_gradient(const number *restrict images, long pixels, long channels, long threads,
                     const float *restrict scale, const float *restrict shift,
                     const number *restrict gradients, const float *restrict factor,
                     const float *restrict offset, number *restrict output)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long pixel = 0; pixel < pixels; pixel++) {
        const number *restrict image = images + pixel * channels;
        const number *restrict gradient = gradients + pixel * channels;
        number *restrict out = output + pixel * channels;
        for (long c = 0; c < channels; c++) {
            float value = wide(image[c]);
            float g = passed(wide(gradient[c]), value * scale[c] + shift[c]);
            out[c] = narrow(g * scale[c] + value * factor[c] + offset[c]);
        }
    }
}

/* Of a depthwise 3x3 convolution with padding 1, what each weight changes.
   totals: threads x 9 x channels, zero; gradients: of the output, thinned_height x thinned_width. */
void depthwise_to_weight(const number *restrict images, long batch, long height, long width,
                         long channels, long down, long right, const number *restrict gradients,
                         long thinned_height, long thinned_width, long threads, double *totals)
{
#pragma omp parallel num_threads(threads)
    {
        double *restrict total = totals + omp_get_thread_num() * 9 * channels;
        float *restrict sum = malloc(9 * channels * sizeof(float));
#pragma omp for schedule(static)
        for (long line = 0; line < batch * thinned_height; line++) {
            long image = line / thinned_height, top = line % thinned_height * down - 1;
            memset(sum, 0, 9 * channels * sizeof(float));
            for (long x = 0; x < thinned_width; x++) {
                const number *restrict gradient = gradients + (line * thinned_width + x) * channels;
                for (long tap = 0; tap < 9; tap++) {
                    long row = top + tap / 3, column = x * right - 1 + tap % 3;
                    if (row < 0 || row >= height || column < 0 || column >= width)
                        continue;
                    const number *restrict pixel =
                        images + ((image * height + row) * width + column) * channels;
                    float *restrict into = sum + tap * channels;
                    for (long c = 0; c < channels; c++)
                        into[c] += wide(gradient[c]) * wide(pixel[c]);
                }
            }
            for (long c = 0; c < 9 * channels; c++)
                total[c] += sum[c];
        }
        free(sum);
    }
}

/* Of the same convolution, what its images change; weight: 9 x channels. */
void depthwise_to_images(const number *restrict gradients, long batch, long height, long width,
                         long channels, long down, long right, const float *restrict weight,
                         long thinned_height, long thinned_width, long threads,
                         number *restrict output)
{
#pragma omp parallel num_threads(threads)
    {
        float *restrict sum = malloc(channels * sizeof(float));
#pragma omp for schedule(static)
        for (long line = 0; line < batch * height; line++) {
            long image = line / height, row = line % height;
            for (long column = 0; column < width; column++) {
                memset(sum, 0, channels * sizeof(float));
                for (long tap = 0; tap < 9; tap++) {
                    long y = row + 1 - tap / 3, x = column + 1 - tap % 3;
                    if (y < 0 || y % down || y / down >= thinned_height || x < 0 || x % right ||
                        x / right >= thinned_width)
                        continue;
                    const number *restrict gradient =
                        gradients +
                        ((image * thinned_height + y / down) * thinned_width + x / right) * channels;
                    const float *restrict by = weight + tap * channels;
                    for (long c = 0; c < channels; c++)
                        sum[c] += wide(gradient[c]) * by[c];
                }
                number *restrict out = output + (line * width + column) * channels;
                for (long c = 0; c < channels; c++)
                    out[c] = narrow(sum[c]);
            }
        }
        free(sum);
    }
}
