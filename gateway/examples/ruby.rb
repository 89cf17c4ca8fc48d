# Runs on every Ruby that integr8s offers; 3.2 and later show a little more.

puts "Hello from Ruby #{RUBY_VERSION}"

words = "the quick brown fox jumps over the lazy dog".split
puts "longest words: #{words.max_by(3, &:length).join(", ")}"

# Data.define came with 3.2.
if defined?(Data) && Data.respond_to?(:define)
  point = Data.define(:x, :y).new(x: 3, y: 4)
  puts "Data.define: #{point.inspect}, moved: #{point.with(x: 5).inspect}"
else
  puts "Data.define needs Ruby 3.2; this is #{RUBY_VERSION}."
end
