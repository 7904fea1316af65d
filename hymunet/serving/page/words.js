// What the page says of numbers, answers and errors.

const SURE = [[0.9, "High"], [0.75, "Middling"], [0, "Low: have a person look"]]; // by the Dice of mask and probabilities

export const number = (value) => value.toLocaleString("en");
export const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
export const megabytes = (value, digits = 0) => `${(value / 2 ** 20).toFixed(digits)} MB`;
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** One line of an answer. */
export function summary({ regions, area_fraction: fraction }) {
  if (!regions.length) return "nothing outlined";
  return `${regions.length === 1 ? "one region" : `${regions.length} regions`}, ${percent(fraction)} of the image`;
}

/** Names and values of the panel. seconds: until the answer came. */
export function measures(answer, seconds) {
  const largest = answer.regions[0];
  const sure = largest ? SURE.find(([least]) => answer.confidence >= least)[1] : "Low: have a person look";
  return [
    ["Confidence", `${sure} (${answer.confidence.toFixed(2)})`],
    ["Area", `${number(answer.area_pixels)} pixels`],
    ["Image", `${number(answer.width)} × ${number(answer.height)}`],
    ["Regions", number(answer.regions.length)],
    ...(largest ? [["Largest, in a box of", `${number(largest.box[2])} × ${number(largest.box[3])}`]] : []),
    ["Answered in", `${seconds.toFixed(2)} s`],
  ];
}
