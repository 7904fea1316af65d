// Distances from one set of pixels to another, exact, in squared pixels.
//
// First, for every pixel, the distance up or down its own column to the nearest pixel of the other set (two sweeps over
// rows, which the compiler turns into vector code). Then each pixel looks left and right along its row: a column `step`
// away cannot help once step² is no less than the best found. Contours of one lesion lie close together, so the look
// ends after a few columns; the worst case is the width for each pixel.

#include <cstdint>
#include <cstring>

namespace {

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

}  // namespace

// from, to: (height, width) of 0 and 1, `to` with a pixel in it. scratch: height · width. squared: one for each pixel of
// `from`, row by row.
extern "C" __attribute__((visibility("default"))) void hymunet_nearest(
    const uint8_t* from, const uint8_t* to, int64_t height, int64_t width, int32_t* scratch, int64_t* squared) {
  column_distances(to, height, width, static_cast<int32_t>(height + width), scratch);
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* here = from + y * width;
    const int32_t* row = scratch + y * width;
    for (int64_t x = 0; x < width; ++x) {
      uint64_t eight;
      while (x + 8 <= width && (std::memcpy(&eight, here + x, 8), eight == 0)) x += 8;
      if (x < width && here[x]) *squared++ = nearest(row, width, x);
    }
  }
}
