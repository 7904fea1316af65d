// Undoes the row filters of an 8-bit grey PNG (PNG specification, section 9) into plain rows.
//
// Masks are long runs of one value, so that most residuals are zero: eight of them are settled at once where a general
// decoder, whose next pixel waits for the last, takes one.

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int64_t kWord = 8;

uint64_t word_at(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, kWord);
  return word;
}

uint8_t paeth(int left, int above, int corner) {
  const int a = std::abs(above - corner), b = std::abs(left - corner), c = std::abs(left + above - 2 * corner);
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

// row: a residual for each pixel; up: the row above; out must not overlap either. False for an unknown filter.
bool undo(int filter, const uint8_t* row, const uint8_t* up, int64_t width, uint8_t* out) {
  switch (filter) {
    case 0:
      std::memcpy(out, row, width);
      return true;
    case 1: {
      uint8_t left = 0;
      for (int64_t x = 0; x < width;) {
        if (x + kWord <= width && word_at(row + x) == 0) {
          std::memset(out + x, left, kWord);
          x += kWord;
        } else {
          out[x] = left += row[x];
          ++x;
        }
      }
      return true;
    }
    case 2:
      for (int64_t x = 0; x < width; ++x) out[x] = row[x] + up[x];
      return true;
    case 3: {
      int left = 0;
      for (int64_t x = 0; x < width; ++x) out[x] = left = static_cast<uint8_t>(row[x] + (left + up[x]) / 2);
      return true;
    }
    case 4: {
      uint8_t left = 0, corner = 0;
      for (int64_t x = 0; x < width;) {
        // Where the row above is flat, Paeth predicts the pixel to the left.
        if (x + kWord <= width && word_at(row + x) == 0 && word_at(up + x) == corner * 0x0101010101010101u) {
          std::memset(out + x, left, kWord);
          x += kWord;
        } else {
          out[x] = left = static_cast<uint8_t>(row[x] + paeth(left, up[x], corner));
          corner = up[x];
          ++x;
        }
      }
      return true;
    }
    default:
      return false;
  }
}

}  // namespace

// rows: height times a filter's number and `width` residuals. above: `width` zeros, what lies over the first row.
// Returns 0, or 1 for an unknown filter.
extern "C" __attribute__((visibility("default"))) int hymunet_png_unfilter(
    const uint8_t* rows, int64_t width, int64_t height, const uint8_t* above, uint8_t* out) {
  for (int64_t y = 0; y < height; ++y, rows += width + 1) {
    if (!undo(rows[0], rows + 1, above, width, out)) return 1;
    above = out;
    out += width;
  }
  return 0;
}
