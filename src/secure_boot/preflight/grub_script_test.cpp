#include "secure_boot/preflight/grub_script.h"

#include <gtest/gtest.h>

namespace hf::secure_boot {
namespace {

std::vector<std::string> texts(std::string_view script, GrubVariables variables = {},
                               bool exact_only = true) {
  std::vector<std::string> out;
  read_grub_script(script, variables, Assignments::kFollowed, [&](const GrubCommand& command) {
    if (command.exact || !exact_only) out.push_back(command.text());
  });
  return out;
}

using Texts = std::vector<std::string>;

TEST(GrubScript, takes_commands_out_of_every_branch) {
  EXPECT_EQ(texts("set timeout=0\n"
                  "echo \"HF GRUB\" # a comment\n"
                  "if linux ($root)/vmlinuz a=b ; then\n"
                  "  initrd ($root)/initrd\n"
                  "else boot; fi\n"
                  "if ! [ -e /x ]; then halt; fi",
                  {{"root", "hd0,gpt1"}}),
            (Texts{"set timeout=0", "echo HF GRUB", "linux (hd0,gpt1)/vmlinuz a=b",
                   "initrd (hd0,gpt1)/initrd", "boot", "[ -e /x ]", "halt"}));
}

TEST(GrubScript, menu_entries_are_entered_and_their_heads_left_out) {
  EXPECT_EQ(texts("menuentry 'Debian' --class gnu $menuentry_id_option 'x' {\n\tlinux /k 'a b'\n}\n"
                  "submenu 'More' { menuentry 'Old' { linux /old\n } }\nfunction f { echo x\n }"),
            (Texts{"linux /k a b", "linux /old", "echo x"}));
}

TEST(GrubScript, assignments_are_followed_and_what_is_unknown_is_marked) {
  EXPECT_EQ(
      texts("a=1\nset b=\"${a}2\"\necho $b\nset c=$nobody\necho $c x\necho '$b' \\$b \"\\$b\""),
      (Texts{"set a=1", "set b=12", "echo 12", "echo $b $b $b"}));
  EXPECT_EQ(texts("set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg",
                  {{"root", std::nullopt}}, false),
            (Texts{"set prefix=($root)/boot/grub", "configfile $prefix/grub.cfg"}));
}

TEST(GrubScript, lines_can_be_continued_and_quotes_left_open) {
  EXPECT_EQ(texts("linux /k \\\n  a"), (Texts{"linux /k a"}));
  EXPECT_EQ(texts("echo 'open"), (Texts{"echo open"}));
  EXPECT_EQ(texts("echo \"open $"), (Texts{}));
  EXPECT_EQ(texts("echo a\\"), (Texts{"echo a"}));
  EXPECT_EQ(texts("${"), (Texts{}));
}

TEST(GrubScript, stops_at_its_bounds) {
  std::string many;
  for (size_t i = 0; i < kGrubCommandsMax + 100; ++i) many += "a\n";
  EXPECT_LE(texts(many).size(), kGrubCommandsMax + 1);
}

TEST(GrubScript, doubling_a_variable_stays_bounded) {
  std::string doubling = "set a=xxxxxxxx\n";
  for (int i = 0; i < 40; ++i) doubling += "set a=$a$a\n";
  doubling += "echo $a\necho known";
  GrubVariables variables;
  size_t longest = 0;
  std::vector<std::string> exact;
  read_grub_script(doubling, variables, Assignments::kFollowed, [&](const GrubCommand& command) {
    longest = std::max(longest, command.text().size());
    if (command.exact) exact.push_back(command.text());
  });
  EXPECT_LE(longest, kGrubWordsBytesMax + 10);
  EXPECT_EQ(variables["a"], std::nullopt);
  EXPECT_EQ(exact.back(), "echo known");
  EXPECT_EQ(exact.size(), 14U);  // the first, 12 that fit, the last
}

TEST(GrubScript, many_long_variables_stay_bounded_in_all) {
  std::string many = "set a=" + std::string(kGrubWordsBytesMax / 2, 'x') + "\n";
  for (int i = 0; i < 2000; ++i) many += "set b" + std::to_string(i) + "=$a\n";
  GrubVariables variables;
  read_grub_script(many, variables, Assignments::kFollowed, [](const GrubCommand&) {});
  size_t bytes = 0;
  for (const auto& [name, value] : variables) bytes += name.size() + (value ? value->size() : 0);
  EXPECT_LE(bytes, kGrubVariablesBytesMax);
  EXPECT_LE(variables.size(), kGrubVariablesMax);
  EXPECT_TRUE(variables["b0"].has_value());
}

TEST(GrubPath, has_a_device_or_none) {
  EXPECT_EQ(split_grub_path("(hd0,gpt1)/vmlinuz").device, "(hd0,gpt1)");
  EXPECT_EQ(split_grub_path("(hd0,gpt1)/vmlinuz").path, "/vmlinuz");
  EXPECT_EQ(split_grub_path("/vmlinuz").device, "");
  EXPECT_EQ(split_grub_path("(broken").path, "");
}

}  // namespace
}  // namespace hf::secure_boot
