// Runs on every Node.js that integr8s offers; 22 and later show a little more.

console.log(`Hello from Node.js ${process.versions.node}`);

const words = "the quick brown fox jumps over the lazy dog".split(" ");
const longest = [...words].sort((a, b) => b.length - a.length).slice(0, 3);
console.log(`longest words: ${longest.join(", ")}`);

// Promise.withResolvers came with version 22.
if (typeof Promise.withResolvers === "function") {
  const { promise, resolve } = Promise.withResolvers();
  setTimeout(() => resolve("resolved from outside"), 10);
  promise.then((value) => console.log(`Promise.withResolvers: ${value}`));
} else {
  console.log(`Promise.withResolvers needs Node.js 22; this is ${process.versions.node}.`);
}
