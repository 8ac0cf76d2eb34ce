// Decodes one Sparkplug payload with the npm package sparkplug-payload, whose authors also wrote
// Eclipse Tahu, and prints the name and the value of each metric as JSON.
//
//     node tests/peers/sparkplug.js HEX

const decoder = require("sparkplug-payload").get("spBv1.0");

const payload = decoder.decodePayload(Buffer.from(process.argv[2], "hex"));
const metrics = payload.metrics.map((metric) => [metric.name, String(metric.value)]);
console.log(JSON.stringify(metrics));
