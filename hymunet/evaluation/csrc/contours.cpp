// The contours of two masks, and the distances from each pixel of one to the other, exact.
//
// First, for every pixel, the distance up or down its own column to the nearest pixel of the other contour (two sweeps
// over rows, which the compiler turns into vector code). Then each pixel looks left and right along its row: a column
// `step` away cannot help once step² is no less than the best found. Contours of one lesion lie close together, so the
// look ends after a few columns; the worst case is the width for each pixel.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// The pixels with a 4-neighbour outside the mask or the image.
void contour_of(const uint8_t* mask, int64_t height, int64_t width, uint8_t* __restrict contour) {
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* here = mask + y * width;
    uint8_t* __restrict out = contour + y * width;
    if (y == 0 || y == height - 1 || width < 3) {
      std::memcpy(out, here, width);
      continue;
    }
    out[0] = here[0];
    for (int64_t x = 1; x < width - 1; ++x) {
      const uint8_t inside = here[x - 1] & here[x + 1] & here[x - width] & here[x + width];
      out[x] = here[x] & (inside ^ 1);
    }
    out[width - 1] = here[width - 1];
  }
}

void column_distances(const uint8_t* set, int64_t height, int64_t width, int32_t none, int32_t* __restrict distance) {
  for (int64_t x = 0; x < width; ++x) distance[x] = set[x] ? 0 : none;
  for (int64_t y = 1; y < height; ++y) {
    const uint8_t* here = set + y * width;
    const int32_t* above = distance + (y - 1) * width;
    int32_t* __restrict row = distance + y * width;
    for (int64_t x = 0; x < width; ++x) row[x] = here[x] ? 0 : above[x] + 1;
  }
  for (int64_t y = height - 2; y >= 0; --y) {
    const int32_t* below = distance + (y + 1) * width;
    int32_t* __restrict row = distance + y * width;
    for (int64_t x = 0; x < width; ++x) row[x] = row[x] < below[x] + 1 ? row[x] : below[x] + 1;
  }
}

int64_t nearest(const int32_t* row, int64_t width, int64_t x) {
  int64_t best = static_cast<int64_t>(row[x]) * row[x];
  for (int64_t step = 1; step * step < best; ++step) {
    const int64_t left = x - step, right = x + step;
    if (left < 0 && right >= width) break;
    int64_t along = left >= 0 ? row[left] : row[right];
    if (right < width && row[right] < along) along = row[right];
    const int64_t found = step * step + along * along;
    if (found < best) best = found;
  }
  return best;
}

// From each pixel of `from`, row by row, to `to`, which has one; returns how many.
int64_t directed(
    const uint8_t* from, const uint8_t* to, int64_t height, int64_t width, int32_t* scratch, double* distance) {
  column_distances(to, height, width, static_cast<int32_t>(height + width), scratch);
  double* end = distance;
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* here = from + y * width;
    const int32_t* row = scratch + y * width;
    for (int64_t x = 0; x < width; ++x) {
      uint64_t eight;
      while (x + 8 <= width && (std::memcpy(&eight, here + x, 8), eight == 0)) x += 8;
      if (x < width && here[x]) *end++ = std::sqrt(static_cast<double>(nearest(row, width, x)));
    }
  }
  return end - distance;
}

}  // namespace

// first, second: (height, width) of 0 and 1, each with a pixel in it. scratch: 6 · height · width bytes, aligned for
// int32. distance: from the first contour to the second, and then back; room for 2 · height · width. Returns how many of
// them are of the first contour; total: of both.
extern "C" __attribute__((visibility("default"))) int64_t hymunet_distances(
    const uint8_t* first, const uint8_t* second, int64_t height, int64_t width, int32_t* scratch, double* distance,
    int64_t* total) {
  const int64_t pixels = height * width;
  uint8_t* contours = reinterpret_cast<uint8_t*>(scratch + pixels);
  contour_of(first, height, width, contours);
  contour_of(second, height, width, contours + pixels);
  const int64_t count = directed(contours, contours + pixels, height, width, scratch, distance);
  *total = count + directed(contours + pixels, contours, height, width, scratch, distance + count);
  return count;
}
