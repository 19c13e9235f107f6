// Text from elsewhere, made safe to print, to log and to put into JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hf {

// Bytes of the UTF-8 character at the start of `text`, which is not empty; 0 if it is not one
// (RFC 3629).
size_t utf8_character_size(std::string_view text);
bool is_utf8(std::string_view text);

// The character of `size` bytes at the start of `text` is one that a terminal would obey (C0 and C1
// controls, DEL), or that breaks lines or turns the direction of what stands around it (U+2028 and
// U+2029, bidirectional marks, embeddings, overrides and isolates): text with it reads as another.
bool is_control(std::string_view text, size_t size);

// A span of time, as short as says what matters: "8 s", "12 min", "1 h 5 min", "1 day 2 h",
// "400 days".
std::string duration_words(uint64_t us);

// On one line: characters of is_control() become spaces and what is not UTF-8 '?', cut to
// `size_max` bytes between characters.
std::string clean_text(std::string_view text, size_t size_max);

}  // namespace hf
