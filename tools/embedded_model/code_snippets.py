"""Short textbook programs, written for this project, by language: (task, source)."""

from __future__ import annotations

PYTHON = (
    ("reverse a string", "def reverse_string(s):\n    return s[::-1]"),
    ("check if a string is a palindrome", "def is_palindrome(s):\n    return s == s[::-1]"),
    (
        "compute the factorial of a number",
        "def factorial(n):\n    if n <= 1:\n        return 1\n    return n * factorial(n - 1)",
    ),
    (
        "compute the nth Fibonacci number",
        "def fibonacci(n):\n    if n <= 1:\n        return n\n"
        "    return fibonacci(n - 1) + fibonacci(n - 2)",
    ),
    (
        "check if a number is prime",
        "def is_prime(n):\n    if n < 2:\n        return False\n"
        "    for i in range(2, int(n ** 0.5) + 1):\n        if n % i == 0:\n"
        "            return False\n    return True",
    ),
    (
        "sum a list of numbers",
        "def sum_list(items):\n    total = 0\n    for x in items:\n        total += x\n"
        "    return total",
    ),
    ("find the maximum of a list", "def find_max(items):\n    return max(items)"),
    ("find the minimum of a list", "def find_min(items):\n    return min(items)"),
    (
        "count the vowels in a string",
        'def count_vowels(s):\n    return sum(1 for c in s.lower() if c in "aeiou")',
    ),
    (
        "compute the greatest common divisor",
        "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
    ),
    ("sort a list", "def sort_list(items):\n    return sorted(items)"),
    ("remove duplicates from a list", "def unique(items):\n    return list(set(items))"),
    ("count the words in a string", "def count_words(s):\n    return len(s.split())"),
    ("get the length of a list", "def length(items):\n    return len(items)"),
    ("convert a string to uppercase", "def to_upper(s):\n    return s.upper()"),
    ("convert a string to lowercase", "def to_lower(s):\n    return s.lower()"),
    ("find the maximum of two numbers", "def max_of_two(a, b):\n    return a if a > b else b"),
    ("compute the power of a number", "def power(base, exp):\n    return base ** exp"),
    ("reverse a list", "def reverse_list(items):\n    return items[::-1]"),
    ("flatten a list of lists", "def flatten(lists):\n    return [x for xs in lists for x in xs]"),
    ("print hello world", 'def hello():\n    print("Hello, world!")'),
    (
        "filter even numbers from a list",
        "def filter_even(items):\n    return [x for x in items if x % 2 == 0]",
    ),
    ("compute the average of a list", "def mean(items):\n    return sum(items) / len(items)"),
    (
        "search a sorted list with binary search",
        "def binary_search(items, target):\n    low, high = 0, len(items) - 1\n"
        "    while low <= high:\n        mid = (low + high) // 2\n"
        "        if items[mid] == target:\n            return mid\n"
        "        if items[mid] < target:\n            low = mid + 1\n"
        "        else:\n            high = mid - 1\n    return -1",
    ),
    ("convert Celsius to Fahrenheit", "def to_fahrenheit(c):\n    return c * 9 / 5 + 32"),
    ("merge two dictionaries", "def merge(a, b):\n    return {**a, **b}"),
    ("read a file", "def read_file(path):\n    with open(path) as f:\n        return f.read()"),
    (
        "print fizz buzz",
        "def fizz_buzz(n):\n    for i in range(1, n + 1):\n        if i % 15 == 0:\n"
        '            print("FizzBuzz")\n        elif i % 3 == 0:\n            print("Fizz")\n'
        '        elif i % 5 == 0:\n            print("Buzz")\n        else:\n'
        "            print(i)",
    ),
    ("swap two values", "def swap(a, b):\n    return b, a"),
    ("join a list of strings", 'def join_strings(items):\n    return ", ".join(items)'),
    (
        "compute the absolute value of a number",
        "def absolute(n):\n    return n if n >= 0 else -n",
    ),
    (
        "sort a list with bubble sort",
        "def bubble_sort(items):\n    for i in range(len(items)):\n"
        "        for j in range(len(items) - 1 - i):\n"
        "            if items[j] > items[j + 1]:\n"
        "                items[j], items[j + 1] = items[j + 1], items[j]\n    return items",
    ),
    ("greet a person", 'def greet(name):\n    return f"Hello, {name}!"'),
    (
        "define a class for a person",
        "class Person:\n    def __init__(self, name, age):\n        self.name = name\n"
        "        self.age = age",
    ),
)
JAVASCRIPT = (
    (
        "reverse a string",
        'function reverseString(s) {\n  return s.split("").reverse().join("");\n}',
    ),
    (
        "check if a string is a palindrome",
        'function isPalindrome(s) {\n  return s === s.split("").reverse().join("");\n}',
    ),
    (
        "compute the factorial of a number",
        "function factorial(n) {\n  return n <= 1 ? 1 : n * factorial(n - 1);\n}",
    ),
    (
        "compute the nth Fibonacci number",
        "function fibonacci(n) {\n  return n <= 1 ? n : fibonacci(n - 1) + fibonacci(n - 2);\n}",
    ),
    (
        "check if a number is prime",
        "function isPrime(n) {\n  if (n < 2) return false;\n"
        "  for (let i = 2; i * i <= n; i++) {\n    if (n % i === 0) return false;\n  }\n"
        "  return true;\n}",
    ),
    (
        "sum a list of numbers",
        "function sumList(items) {\n  return items.reduce((a, b) => a + b, 0);\n}",
    ),
    ("find the maximum of a list", "function findMax(items) {\n  return Math.max(...items);\n}"),
    ("find the minimum of a list", "function findMin(items) {\n  return Math.min(...items);\n}"),
    ("sort a list", "function sortList(items) {\n  return items.sort((a, b) => a - b);\n}"),
    ("remove duplicates from a list", "function unique(items) {\n  return [...new Set(items)];\n}"),
    ("get the length of a list", "function length(items) {\n  return items.length;\n}"),
    ("convert a string to uppercase", "function toUpper(s) {\n  return s.toUpperCase();\n}"),
    ("find the maximum of two numbers", "function maxOfTwo(a, b) {\n  return a > b ? a : b;\n}"),
    ("reverse a list", "function reverseList(items) {\n  return items.reverse();\n}"),
    ("flatten a list of lists", "function flatten(lists) {\n  return lists.flat();\n}"),
    ("print hello world", 'function hello() {\n  console.log("Hello, world!");\n}'),
    (
        "filter even numbers from a list",
        "function filterEven(items) {\n  return items.filter((x) => x % 2 === 0);\n}",
    ),
    (
        "fetch data from a URL",
        "async function fetchData(url) {\n  const response = await fetch(url);\n"
        "  return response.json();\n}",
    ),
    (
        "compute the greatest common divisor",
        "function gcd(a, b) {\n  return b === 0 ? a : gcd(b, a % b);\n}",
    ),
    ("greet a person", "function greet(name) {\n  return `Hello, ${name}!`;\n}"),
)
RUST = (
    (
        "reverse a string",
        "fn reverse_string(s: &str) -> String {\n    s.chars().rev().collect()\n}",
    ),
    (
        "check if a string is a palindrome",
        "fn is_palindrome(s: &str) -> bool {\n    s.chars().eq(s.chars().rev())\n}",
    ),
    (
        "compute the factorial of a number",
        "fn factorial(n: u64) -> u64 {\n    if n <= 1 { 1 } else { n * factorial(n - 1) }\n}",
    ),
    (
        "compute the nth Fibonacci number",
        "fn fibonacci(n: u64) -> u64 {\n"
        "    if n <= 1 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }\n}",
    ),
    (
        "check if a number is prime",
        "fn is_prime(n: u64) -> bool {\n    n > 1 && (2..n).all(|i| n % i != 0)\n}",
    ),
    ("sum a list of numbers", "fn sum_list(items: &[i64]) -> i64 {\n    items.iter().sum()\n}"),
    (
        "find the maximum of a list",
        "fn find_max(items: &[i64]) -> Option<&i64> {\n    items.iter().max()\n}",
    ),
    ("sort a list", "fn sort_list(items: &mut Vec<i64>) {\n    items.sort();\n}"),
    (
        "count the words in a string",
        "fn count_words(s: &str) -> usize {\n    s.split_whitespace().count()\n}",
    ),
    ("get the length of a list", "fn length(items: &[i64]) -> usize {\n    items.len()\n}"),
    ("convert a string to uppercase", "fn to_upper(s: &str) -> String {\n    s.to_uppercase()\n}"),
    (
        "find the maximum of two numbers",
        "fn max_of_two(a: i64, b: i64) -> i64 {\n    if a > b { a } else { b }\n}",
    ),
    ("print hello world", 'fn main() {\n    println!("Hello, world!");\n}'),
    (
        "compute the greatest common divisor",
        "fn gcd(a: u64, b: u64) -> u64 {\n    if b == 0 { a } else { gcd(b, a % b) }\n}",
    ),
    ("swap two values", "fn swap(a: i64, b: i64) -> (i64, i64) {\n    (b, a)\n}"),
    (
        "define a config struct",
        "pub struct Config {\n    pub name: String,\n    pub debug: bool,\n}",
    ),
)
GO = (
    ("print hello world", 'func main() {\n\tfmt.Println("Hello, world!")\n}'),
    (
        "compute the factorial of a number",
        "func factorial(n int) int {\n\tif n <= 1 {\n\t\treturn 1\n\t}\n"
        "\treturn n * factorial(n-1)\n}",
    ),
    (
        "find the maximum of two numbers",
        "func maxOfTwo(a int, b int) int {\n\tif a > b {\n\t\treturn a\n\t}\n\treturn b\n}",
    ),
    (
        "reverse a string",
        "func reverseString(s string) string {\n\tr := []rune(s)\n"
        "\tfor i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {\n\t\tr[i], r[j] = r[j], r[i]\n\t}\n"
        "\treturn string(r)\n}",
    ),
)
JAVA = (
    (
        "print hello world",
        'public static void main(String[] args) {\n    System.out.println("Hello, world!");\n}',
    ),
    (
        "reverse a string",
        "static String reverseString(String s) {\n"
        "    return new StringBuilder(s).reverse().toString();\n}",
    ),
    (
        "compute the factorial of a number",
        "static int factorial(int n) {\n    return n <= 1 ? 1 : n * factorial(n - 1);\n}",
    ),
    (
        "find the maximum of two numbers",
        "static int maxOfTwo(int a, int b) {\n    return a > b ? a : b;\n}",
    ),
)
C = (
    ("print hello world", 'int main(void) {\n    puts("Hello, world!");\n    return 0;\n}'),
    (
        "compute the factorial of a number",
        "int factorial(int n) {\n    return n <= 1 ? 1 : n * factorial(n - 1);\n}",
    ),
    (
        "find the maximum of two numbers",
        "int max_of_two(int a, int b) {\n    return a > b ? a : b;\n}",
    ),
    (
        "reverse a string",
        "void reverse_string(char *s) {\n"
        "    for (int i = 0, j = strlen(s) - 1; i < j; i++, j--) {\n"
        "        char c = s[i];\n        s[i] = s[j];\n        s[j] = c;\n    }\n}",
    ),
)
CPP = (
    (
        "print hello world",
        'int main() {\n    std::cout << "Hello, world!" << std::endl;\n    return 0;\n}',
    ),
    (
        "reverse a string",
        "std::string reverse_string(std::string s) {\n    std::reverse(s.begin(), s.end());\n"
        "    return s;\n}",
    ),
    ("sort a list", "void sort_list(std::vector<int>& v) {\n    std::sort(v.begin(), v.end());\n}"),
)
TYPESCRIPT = (
    (
        "reverse a string",
        'function reverseString(s: string): string {\n  return s.split("").reverse().join("");\n}',
    ),
    ("greet a person", "function greet(name: string): string {\n  return `Hello, ${name}!`;\n}"),
    ("define a type for a user", "interface User {\n  id: number;\n  name: string;\n}"),
)
BASH = (
    ("print hello world", 'hello() {\n  echo "Hello, world!"\n}'),
    ("list all files", "list_files() {\n  ls -la\n}"),
    ("add two numbers", "add() {\n  echo $(($1 + $2))\n}"),
    ("count the lines of a file", 'count_lines() {\n  wc -l < "$1"\n}'),
    ("create a folder", 'make_folder() {\n  mkdir -p "$1"\n}'),
)
SNIPPETS = {
    "Python": PYTHON,
    "JavaScript": JAVASCRIPT,
    "Rust": RUST,
    "Go": GO,
    "Java": JAVA,
    "C": C,
    "C++": CPP,
    "TypeScript": TYPESCRIPT,
    "Bash": BASH,
}
